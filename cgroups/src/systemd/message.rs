//! Messages of D-Bus (D-Bus Specification 0.43, "Message Protocol"): what a
//! header is, and how much a peer may send. zbus writes and reads the values.
//! Not for sockets; see `bus`.

use serde::{Deserialize, Serialize};
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{NATIVE_ENDIAN, to_bytes};
use zbus::{DynamicType, Error, Signature, Type, Variant};

use crate::systemd::problem::Problem;

/// No message of systemd's manager comes near; the protocol's own limit of
/// 128 MiB would let a peer make us take that much memory.
const LARGEST_MESSAGE: usize = 4 << 20;

/// A path and a few names. Each byte may become a value of a hundred.
const LARGEST_FIELDS: usize = 16 << 10;

/// The part of a header that tells how long the message is.
pub(crate) const BEGINNING: usize = 16;

const BYTE_ORDER: u8 = if cfg!(target_endian = "little") {
    b'l'
} else {
    b'B'
};

/// What a message is.
const CALL: u8 = 1;
pub(crate) const RETURN: u8 = 2;
pub(crate) const ERROR: u8 = 3;
pub(crate) const SIGNAL: u8 = 4;

/// What is before a body, which is a value itself. `F` is the fields, an array
/// of codes and values.
#[derive(Serialize, Deserialize, Type)]
#[zbus(signature = "(yyyyuua(yv))")]
struct Header<F> {
    byte_order: u8,
    kind: u8,
    flags: u8,
    version: u8,
    body_length: u32,
    serial: u32,
    fields: F,
}

/// A field's value of a known type. With `Variant` a body's signature would get
/// parentheses around it.
#[derive(Serialize, Type)]
#[zbus(signature = "v")]
struct Field<T> {
    signature: Signature,
    value: T,
}

fn context() -> Context {
    Context::new(NATIVE_ENDIAN, 0)
}

/// A method of an object that somebody on the bus has.
pub(crate) struct Method<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
}

impl Method<'_> {
    /// The call. `serial` is not 0.
    pub(crate) fn call(
        &self,
        serial: u32,
        arguments: &(impl Serialize + DynamicType),
    ) -> Result<Vec<u8>, Problem> {
        let types = arguments.signature().to_string_no_parens();
        let field = |code: u8, signature, value| (code, Field { signature, value });
        let mut fields = vec![
            field(1, Signature::ObjectPath, self.path),
            field(2, Signature::Str, self.interface),
            field(3, Signature::Str, self.member),
            field(6, Signature::Str, self.destination),
        ];
        if !types.is_empty() {
            fields.push(field(8, Signature::Signature, &types));
        }
        encode(CALL, serial, fields, arguments)
    }
}

fn encode(
    kind: u8,
    serial: u32,
    fields: impl Serialize,
    body: &(impl Serialize + DynamicType),
) -> Result<Vec<u8>, Problem> {
    let body = to_bytes(context(), body)?;
    let header = Header {
        byte_order: BYTE_ORDER,
        kind,
        flags: 0,
        version: 1,
        body_length: u32::try_from(body.len()).map_err(|_| Problem::TooLong)?,
        serial,
        fields,
    };
    let mut bytes = to_bytes(context(), &header)?.to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(&body);
    match bytes.len() {
        ..=LARGEST_MESSAGE => Ok(bytes),
        _ => Err(Problem::TooLong),
    }
}

/// How long the message is that begins with these bytes, [`BEGINNING`] of them.
pub(crate) fn length(beginning: &[u8]) -> Result<usize, Problem> {
    // In place of the fields there is their length only.
    let data = Data::new(beginning, context());
    let (header, _) = data.deserialize_for_signature::<_, Header<u32>>("(yyyyuuu)")?;
    if header.byte_order != BYTE_ORDER {
        return Err(Error::IncorrectEndian.into());
    }
    let sizes = (
        usize::try_from(header.fields),
        usize::try_from(header.body_length),
    );
    match sizes {
        (Ok(fields @ ..=LARGEST_FIELDS), Ok(body @ ..=LARGEST_MESSAGE)) => {
            Ok((BEGINNING + fields).next_multiple_of(8) + body)
        }
        _ => Err(Problem::TooLong),
    }
}

/// A message that came in.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    /// The call that this answers; 0 for none.
    pub(crate) reply_to: u32,
    /// Whom the bus has it from; empty without a bus, or systemd's name.
    pub(crate) sender: String,
    pub(crate) interface: String,
    pub(crate) member: String,
    pub(crate) error_name: String,
    signature: Signature,
    body: Data<'static, 'static>,
}

impl Message {
    /// Reads a whole message, as long as [`length`] says.
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<Message, Problem> {
        let data = Data::new(bytes, context());
        let (header, end) = data.deserialize::<Header<Vec<(u8, Variant)>>>()?;
        let start = end.next_multiple_of(8);
        if start > data.len() {
            return Err(Error::OutOfBounds.into());
        }
        let mut message = Message {
            kind: header.kind,
            reply_to: 0,
            sender: String::new(),
            interface: String::new(),
            member: String::new(),
            error_name: String::new(),
            signature: Signature::Unit,
            body: data.slice(start..),
        };
        for field in header.fields {
            match field {
                (2, Variant::Str(name)) => message.interface = name.into(),
                (3, Variant::Str(name)) => message.member = name.into(),
                (4, Variant::Str(name)) => message.error_name = name.into(),
                (5, Variant::U32(serial)) => message.reply_to = serial,
                (7, Variant::Str(name)) => message.sender = name.into(),
                (8, Variant::Signature(types)) => message.signature = types,
                // Also those nobody knows yet.
                _ => {}
            }
        }
        Ok(message)
    }

    /// The body, if it is a `T` and nothing else.
    pub(crate) fn body<'m, T: Deserialize<'m> + Type>(&'m self) -> Result<T, Problem> {
        let signature = self.signature.clone();
        if signature != *T::SIGNATURE {
            return Err(Error::SignatureMismatch(signature, T::SIGNATURE.to_string()).into());
        }
        match self.body.deserialize()? {
            (value, end) if end == self.body.len() => Ok(value),
            _ => Err(Error::OutOfBounds.into()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use zbus::ObjectPath;
    use zbus::as_variant::Deserialize;

    /// A message as a service would send it, with fields that we do not read.
    pub(crate) fn answer(
        kind: u8,
        reply_to: u32,
        [interface, member, error_name]: [&str; 3],
        body: &(impl Serialize + DynamicType),
    ) -> Vec<u8> {
        let text = |code: u8, value| {
            let signature = Signature::Str;
            (code, Field { signature, value })
        };
        let types = Field {
            signature: Signature::Signature,
            value: body.signature().to_string_no_parens(),
        };
        let fields = (
            (1_u8, Variant::from(ObjectPath::try_from("/x").unwrap())),
            text(2, interface),
            text(3, member),
            text(4, error_name),
            (5_u8, Variant::from(reply_to)),
            text(7, "org.freedesktop.systemd1"),
            (8_u8, types),
            // One that nobody knows.
            (99_u8, Variant::from(vec![("new", 1_u64)])),
        );
        encode(kind, 7, fields, body).unwrap()
    }

    const METHOD: Method<'static> = Method {
        destination: "org.example",
        path: "/a/b",
        interface: "org.example.I",
        member: "StopUnit",
    };

    #[test]
    #[cfg(target_endian = "little")]
    fn a_call_is_laid_out_as_the_specification_says() {
        let expected: &[u8] = b"\
            l\x01\0\x01\x15\0\0\0\x03\0\0\0\x60\0\0\0\
            \x01\x01o\0\x04\0\0\0/a/b\0\0\0\0\
            \x02\x01s\0\x0d\0\0\0org.example.I\0\0\0\
            \x03\x01s\0\x08\0\0\0StopUnit\0\0\0\0\0\0\0\0\
            \x06\x01s\0\x0b\0\0\0org.example\0\0\0\0\0\
            \x08\x01g\0\x02ss\0\
            \x01\0\0\0a\0\0\0\x08\0\0\0replace!\0";
        let bytes = METHOD.call(3, &("a", "replace!")).unwrap();
        assert_eq!(
            bytes.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }

    #[test]
    fn a_call_is_read_as_it_was_written() {
        let bytes = METHOD.call(3, &("a.scope", "replace")).unwrap();
        assert_eq!(length(&bytes[..BEGINNING]), Ok(bytes.len()));
        let message = Message::decode(bytes).unwrap();
        assert_eq!(message.kind, CALL);
        assert_eq!(message.interface, "org.example.I");
        assert_eq!(message.member, "StopUnit");
        assert_eq!(message.body::<(&str, &str)>(), Ok(("a.scope", "replace")));
        // Of another type, or not the whole of it.
        message.body::<(&str, u32)>().unwrap_err();
        message.body::<&str>().unwrap_err();
        let without = Message::decode(METHOD.call(3, &()).unwrap()).unwrap();
        assert_eq!(without.signature, Signature::Unit);
        without.body::<&str>().unwrap_err();
    }

    type JobRemoved<'a> = (u32, ObjectPath<'a>, &'a str, &'a str);

    fn job_removed() -> Vec<u8> {
        let path = ObjectPath::try_from("/job/1").unwrap();
        let names = ["org.example", "JobRemoved", "x.y"];
        answer(SIGNAL, 9, names, &(1_u32, path, "a.scope", "done"))
    }

    /// Whether it is the end of a job, and nothing else that is read.
    fn read(bytes: Vec<u8>) -> bool {
        let Ok(message) = Message::decode(bytes) else {
            return false;
        };
        let others = [
            message.body::<ObjectPath>().is_ok(),
            message.body::<String>().is_ok(),
            message.body::<Deserialize<String>>().is_ok(),
        ];
        message.body::<JobRemoved>().is_ok() && others == [false; 3]
    }

    #[test]
    fn cut_messages_are_refused() {
        let whole = job_removed();
        assert!(read(whole.clone()));
        for end in 0..whole.len() {
            assert!(!read(whole[..end].to_vec()), "{end}");
        }
        for end in 0..BEGINNING {
            length(&whole[..end]).unwrap_err();
        }
    }

    /// Whatever is changed, there is an answer and no panic, and no length
    /// beyond the limits.
    #[test]
    fn damaged_messages_are_refused() {
        let whole = job_removed();
        let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap()
        };
        let (mut read_well, mut refused) = (0, 0);
        for _ in 0..50_000 {
            let mut bytes = whole.clone();
            for _ in 0..1 + next() % 4 {
                let at = next() % bytes.len();
                bytes[at] = u8::try_from(next() % 256).unwrap();
            }
            if let Ok(length) = length(&bytes[..BEGINNING]) {
                assert!(length <= BEGINNING + LARGEST_FIELDS + LARGEST_MESSAGE);
            }
            match read(bytes) {
                true => read_well += 1,
                false => refused += 1,
            }
        }
        assert!(read_well > 1000 && refused > 1000, "{read_well} {refused}");
    }

    #[test]
    fn sizes_are_bounded() {
        let beginning = |body: usize, fields: usize| {
            let mut bytes = METHOD.call(3, &()).unwrap();
            bytes.truncate(BEGINNING);
            bytes[4..8].copy_from_slice(&u32::try_from(body).unwrap().to_ne_bytes());
            bytes[12..].copy_from_slice(&u32::try_from(fields).unwrap().to_ne_bytes());
            bytes
        };
        let largest = BEGINNING + LARGEST_FIELDS + LARGEST_MESSAGE;
        assert_eq!(
            length(&beginning(LARGEST_MESSAGE, LARGEST_FIELDS)),
            Ok(largest)
        );
        for (body, fields) in [
            (LARGEST_MESSAGE + 1, 0),
            (0, LARGEST_FIELDS + 1),
            (u32::MAX as usize, 0),
            (0, u32::MAX as usize),
        ] {
            assert_eq!(length(&beginning(body, fields)), Err(Problem::TooLong));
        }
        let mut other = beginning(0, 0);
        other[0] = b'?';
        assert!(matches!(length(&other), Err(Problem::Malformed(_))));
        let argument = "x".repeat(LARGEST_MESSAGE);
        assert_eq!(METHOD.call(1, &argument), Err(Problem::TooLong));
    }
}
