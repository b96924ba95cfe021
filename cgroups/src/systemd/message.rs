//! Encodes and decodes messages of D-Bus (D-Bus Specification 0.43, "Message Protocol").
//!
//! The module knows the header and limits the size of messages from a peer; zbus encodes
//! and decodes the values. `connection` sends and receives the messages.

use serde::{Deserialize, Serialize};
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{NATIVE_ENDIAN, to_bytes};
use zbus::{DynamicType, Error, Signature, Type, Variant};

use crate::systemd::problem::Problem;

/// The maximum size of a message. The manager's messages are far smaller. The protocol's
/// own limit of 128 MiB would let a peer make this process allocate that much memory.
const LARGEST_MESSAGE: usize = 4 << 20;

/// The maximum size of a header's fields, which hold a path and a few names. A byte of the
/// message may decode to a value of a hundred bytes.
const LARGEST_FIELDS: usize = 16 << 10;

/// The size of the part of a header that tells the message's length.
pub(crate) const BEGINNING: usize = 16;

const BYTE_ORDER: u8 = if cfg!(target_endian = "little") {
    b'l'
} else {
    b'B'
};

// Types of messages.
const CALL: u8 = 1;
pub(crate) const RETURN: u8 = 2;
pub(crate) const ERROR: u8 = 3;
pub(crate) const SIGNAL: u8 = 4;

/// A message's header, which precedes the body. `F` is the type of the fields, an array of
/// codes and values.
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

/// A field's value of a known type. `Variant` would put parentheses around a body's
/// signature.
#[derive(Serialize, Type)]
#[zbus(signature = "v")]
struct Field<T> {
    signature: Signature,
    value: T,
}

fn context() -> Context {
    Context::new(NATIVE_ENDIAN, 0)
}

/// A method of an object on the bus.
pub(crate) struct Method<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
}

impl Method<'_> {
    /// Encodes a call. `serial` must not be 0.
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

/// Returns the length of the message that begins with these [`BEGINNING`] bytes.
pub(crate) fn length(beginning: &[u8]) -> Result<usize, Problem> {
    // Decode only the length of the fields, in place of the fields.
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

/// A received message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    /// The serial of the call that the message answers; 0 if it is not an answer.
    pub(crate) reply_to: u32,
    /// The sender's name on the bus; empty without a bus, or systemd's name.
    pub(crate) sender: String,
    pub(crate) interface: String,
    pub(crate) member: String,
    pub(crate) error_name: String,
    signature: Signature,
    body: Data<'static, 'static>,
}

impl Message {
    /// Decodes a whole message, whose length [`length`] has returned.
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
                // Ignore other fields, known and unknown.
                _ => {}
            }
        }
        Ok(message)
    }

    /// Decodes the body, which must be a `T` and nothing else.
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

    /// Encodes a message as a service would send it, with fields that are not read here.
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
            // An unknown field.
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
        // Another type, or a part of the body.
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

    /// Returns whether the bytes decode to the end of a job.
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

    /// Decoding a changed message returns a value or an error. It does not panic, and no
    /// length exceeds the limits.
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
