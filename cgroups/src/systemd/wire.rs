//! D-Bus messages as bytes (D-Bus Specification 0.43, "Type System" and
//! "Message Protocol"), as far as systemd's interface needs them.
//!
//! What comes in is not trusted: every length is checked against what is there.
//! Not for sockets; see `bus`.

use crate::systemd::bus::Problem;

/// No message of systemd's manager comes near; the protocol's own limit of
/// 128 MiB would let a peer make us take that much memory.
pub(crate) const LARGEST_MESSAGE: usize = 4 << 20;

/// The part of a header that tells how long the message is.
pub(crate) const FIXED_HEADER: usize = 16;

#[cfg(target_endian = "little")]
const BYTE_ORDER: u8 = b'l';
#[cfg(target_endian = "big")]
const BYTE_ORDER: u8 = b'B';

/// A value of one of the types that properties of units have. There is no
/// floating point number among those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Byte(u8),
    Bool(bool),
    Int16(i16),
    Uint16(u16),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    String(String),
    ObjectPath(String),
    Signature(String),
    /// The signature of the elements, which an empty array has too.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    /// Only in arrays.
    DictEntry(Box<[Value; 2]>),
    Variant(Box<Value>),
}

impl Value {
    /// The type in letters ("Summary of types").
    pub(crate) fn signature(&self) -> String {
        let joined = |values: &[Value]| values.iter().map(Value::signature).collect::<String>();
        match self {
            Value::Byte(_) => "y".into(),
            Value::Bool(_) => "b".into(),
            Value::Int16(_) => "n".into(),
            Value::Uint16(_) => "q".into(),
            Value::Int32(_) => "i".into(),
            Value::Uint32(_) => "u".into(),
            Value::Int64(_) => "x".into(),
            Value::Uint64(_) => "t".into(),
            Value::String(_) => "s".into(),
            Value::ObjectPath(_) => "o".into(),
            Value::Signature(_) => "g".into(),
            Value::Array(element, _) => format!("a{element}"),
            Value::Struct(fields) => format!("({})", joined(fields)),
            Value::DictEntry(pair) => format!("{{{}}}", joined(&pair[..])),
            Value::Variant(_) => "v".into(),
        }
    }

    /// An array of bytes.
    pub(crate) fn bytes(bytes: &[u8]) -> Value {
        let bytes = bytes.iter().map(|&byte| Value::Byte(byte));
        Value::Array("y".into(), bytes.collect())
    }
}

/// Values one after another, each where its type may begin.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        let length = self.bytes.len().next_multiple_of(to);
        self.bytes.resize(length, 0);
    }

    fn number<const SIZE: usize>(&mut self, bytes: [u8; SIZE]) {
        self.align(SIZE);
        self.bytes.extend_from_slice(&bytes);
    }

    fn length(&mut self, length: usize) {
        // Nothing that long can be sent: `Message::encode` refuses it.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.number(length.to_ne_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    fn short_text(&mut self, text: &str) {
        self.bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    pub(crate) fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(number) => self.bytes.push(*number),
            Value::Bool(truth) => self.number(u32::from(*truth).to_ne_bytes()),
            Value::Int16(number) => self.number(number.to_ne_bytes()),
            Value::Uint16(number) => self.number(number.to_ne_bytes()),
            Value::Int32(number) => self.number(number.to_ne_bytes()),
            Value::Uint32(number) => self.number(number.to_ne_bytes()),
            Value::Int64(number) => self.number(number.to_ne_bytes()),
            Value::Uint64(number) => self.number(number.to_ne_bytes()),
            Value::String(text) | Value::ObjectPath(text) => self.text(text),
            Value::Signature(text) => self.short_text(text),
            Value::Array(element, values) => self.array(element, values),
            Value::Struct(fields) => {
                self.align(8);
                fields.iter().for_each(|field| self.value(field));
            }
            Value::DictEntry(pair) => {
                self.align(8);
                pair.iter().for_each(|one| self.value(one));
            }
            Value::Variant(value) => {
                self.short_text(&value.signature());
                self.value(value);
            }
        }
    }

    /// The length counts from the first element, behind its padding.
    fn array(&mut self, element: &str, values: &[Value]) {
        self.length(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment(element.bytes().next().unwrap_or(b'y')));
        let start = self.bytes.len();
        values.iter().for_each(|value| self.value(value));
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

fn alignment(first_letter: u8) -> usize {
    match first_letter {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        // y, g and v
        _ => 1,
    }
}

/// A call of a method.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// `None` where the peer is the service itself, without a bus between.
    pub(crate) destination: Option<&'a str>,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    pub(crate) arguments: &'a [Value],
}

impl Call<'_> {
    /// The message. `serial` is not 0.
    pub(crate) fn encode(&self, serial: u32) -> Result<Vec<u8>, Problem> {
        const METHOD_CALL: u8 = 1;
        const VERSION: u8 = 1;
        let mut body = Writer::default();
        self.arguments.iter().for_each(|value| body.value(value));
        let field = |code: u8, value: Value| {
            Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))])
        };
        let mut fields = vec![
            field(1, Value::ObjectPath(self.path.into())),
            field(2, Value::String(self.interface.into())),
            field(3, Value::String(self.member.into())),
        ];
        if let Some(destination) = self.destination {
            fields.push(field(6, Value::String(destination.into())));
        }
        if !self.arguments.is_empty() {
            let signature = self.arguments.iter().map(Value::signature).collect();
            fields.push(field(8, Value::Signature(signature)));
        }
        let mut header = Writer {
            bytes: vec![BYTE_ORDER, METHOD_CALL, 0, VERSION],
        };
        header.length(body.bytes.len());
        header.number(serial.to_ne_bytes());
        header.array("(yv)", &fields);
        header.align(8);
        header.bytes.extend(body.bytes);
        match header.bytes.len() {
            ..=LARGEST_MESSAGE => Ok(header.bytes),
            _ => Err(Problem::TooLong),
        }
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Return,
    Error,
    Signal,
    /// A call, or what later protocols may know: of no interest to us.
    Other,
}

/// A message that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    /// The call that this answers; 0 for none.
    pub(crate) reply_to: u32,
    /// Whom the bus has it from; empty without a bus.
    pub(crate) sender: String,
    pub(crate) interface: String,
    pub(crate) member: String,
    pub(crate) error_name: String,
    pub(crate) signature: String,
    body: Vec<u8>,
}

/// How long the message is that begins with these bytes.
pub(crate) fn message_length(header: &[u8; FIXED_HEADER]) -> Result<usize, Problem> {
    if header[0] != BYTE_ORDER {
        return Err(Problem::Malformed("a message in another byte order"));
    }
    let mut reader = Reader {
        bytes: header,
        at: 4,
    };
    let body = reader.uint32()?;
    reader.uint32()?;
    let fields = reader.uint32()?;
    let (body, fields) = (usize::try_from(body), usize::try_from(fields));
    let (Ok(body), Ok(fields)) = (body, fields) else {
        return Err(Problem::TooLong);
    };
    if body > LARGEST_MESSAGE || fields > LARGEST_MESSAGE {
        return Err(Problem::TooLong);
    }
    match (FIXED_HEADER + fields).next_multiple_of(8) + body {
        length @ ..=LARGEST_MESSAGE => Ok(length),
        _ => Err(Problem::TooLong),
    }
}

impl Message {
    /// Reads a whole message, as long as [`message_length`] says.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Message, Problem> {
        let mut reader = Reader { bytes, at: 0 };
        let mut fixed = [0; 4];
        fixed.copy_from_slice(reader.take(4)?);
        let kind = match fixed[1] {
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => Kind::Other,
        };
        reader.uint32()?;
        reader.uint32()?;
        let mut message = Message {
            kind,
            reply_to: 0,
            sender: String::new(),
            interface: String::new(),
            member: String::new(),
            error_name: String::new(),
            signature: String::new(),
            body: Vec::new(),
        };
        let length = reader.length()?;
        let end = reader.at + length;
        while reader.at < end {
            message.read_field(&mut reader)?;
        }
        if reader.at != end {
            return Err(Problem::Malformed("a header field that is too long"));
        }
        reader.align(8)?;
        message.body = reader.bytes[reader.at..].to_vec();
        Ok(message)
    }

    fn read_field(&mut self, reader: &mut Reader) -> Result<(), Problem> {
        reader.align(8)?;
        let code = reader.take(1)?[0];
        match (code, reader.signature()?.as_str()) {
            (2, "s") => self.interface = reader.text()?,
            (3, "s") => self.member = reader.text()?,
            (4, "s") => self.error_name = reader.text()?,
            (5, "u") => self.reply_to = reader.uint32()?,
            (7, "s") => self.sender = reader.text()?,
            (8, "g") => self.signature = reader.signature()?,
            // Other fields, also those nobody knows yet, are to be passed over.
            (_, "s" | "o") => drop(reader.text()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u" | "i" | "b") => drop(reader.uint32()?),
            (_, "y") => drop(reader.take(1)?),
            _ => return Err(Problem::Malformed("a header field of a strange type")),
        }
        Ok(())
    }

    /// The body, to be read by its signature.
    pub(crate) fn body(&self) -> Reader<'_> {
        Reader {
            bytes: &self.body,
            at: 0,
        }
    }
}

/// Values one after another, each looked for where its type may begin.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

const TOO_SHORT: Problem = Problem::Malformed("a message that ends too early");

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let end = self.at.checked_add(count).ok_or(TOO_SHORT)?;
        let taken = self.bytes.get(self.at..end).ok_or(TOO_SHORT)?;
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Result<(), Problem> {
        self.take(self.at.next_multiple_of(to) - self.at).map(drop)
    }

    pub(crate) fn uint32(&mut self) -> Result<u32, Problem> {
        self.align(4)?;
        let mut number = [0; 4];
        number.copy_from_slice(self.take(4)?);
        Ok(u32::from_ne_bytes(number))
    }

    /// The length of an array, in bytes; never more than there is.
    pub(crate) fn length(&mut self) -> Result<usize, Problem> {
        let length = usize::try_from(self.uint32()?).map_err(|_| TOO_SHORT)?;
        match length <= self.bytes.len() - self.at {
            true => Ok(length),
            false => Err(TOO_SHORT),
        }
    }

    /// A string or an object path.
    pub(crate) fn text(&mut self) -> Result<String, Problem> {
        let length = self.length()?;
        self.terminated(length)
    }

    /// A signature.
    pub(crate) fn signature(&mut self) -> Result<String, Problem> {
        let length = usize::from(self.take(1)?[0]);
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Result<String, Problem> {
        let bytes = self.take(length)?;
        if self.take(1)? != [0] {
            return Err(Problem::Malformed("a string without an end"));
        }
        let text = std::str::from_utf8(bytes);
        let text = text.map_err(|_| Problem::Malformed("a string that is not UTF-8"))?;
        Ok(text.to_owned())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A message as a service would send it: a call's encoder with another
    /// type byte and reply serial, which the protocol allows.
    pub(crate) fn answer(kind: u8, reply_to: u32, names: [&str; 3], body: &[Value]) -> Vec<u8> {
        let [interface, member, error_name] = names;
        let field = |code: u8, value: Value| {
            Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))])
        };
        let mut fields = vec![
            field(1, Value::ObjectPath("/org/freedesktop/systemd1".into())),
            // A field that nobody knows.
            field(99, Value::String("new".into())),
        ];
        for (code, name) in [(2, interface), (3, member), (4, error_name)] {
            if !name.is_empty() {
                fields.push(field(code, Value::String(name.into())));
            }
        }
        if reply_to != 0 {
            fields.push(field(5, Value::Uint32(reply_to)));
        }
        let signature: String = body.iter().map(Value::signature).collect();
        if !signature.is_empty() {
            fields.push(field(8, Value::Signature(signature)));
        }
        let mut writer = Writer::default();
        body.iter().for_each(|value| writer.value(value));
        let mut header = Writer {
            bytes: vec![BYTE_ORDER, kind, 1, 1],
        };
        header.length(writer.bytes.len());
        header.number(7_u32.to_ne_bytes());
        header.array("(yv)", &fields);
        header.align(8);
        header.bytes.extend(writer.bytes);
        header.bytes
    }

    fn written(value: &Value) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.value(value);
        writer.bytes
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn values_are_laid_out_as_the_specification_says() {
        let text = |text: &str| Value::String(text.into());
        let table: [(Value, &str, &[u8]); 9] = [
            (Value::Byte(7), "y", &[7]),
            (Value::Bool(true), "b", &[1, 0, 0, 0]),
            (Value::Int16(-2), "n", &[254, 255]),
            (text("foo"), "s", b"\x03\0\0\0foo\0"),
            (Value::Signature("as".into()), "g", b"\x02as\0"),
            (
                Value::Variant(Box::new(Value::Uint32(5))),
                "v",
                b"\x01u\0\0\x05\0\0\0",
            ),
            // The padding before the first element does not count.
            (
                Value::Array("t".into(), vec![Value::Uint64(5)]),
                "at",
                &[8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
            ),
            // And is there when there is none.
            (Value::Array("(ss)".into(), vec![]), "a(ss)", &[0; 8]),
            (
                Value::Struct(vec![Value::Byte(1), Value::Uint16(2)]),
                "(yq)",
                &[1, 0, 2, 0],
            ),
        ];
        for (value, signature, bytes) in table {
            assert_eq!(value.signature(), signature);
            assert_eq!(written(&value), bytes, "{value:?}");
        }
    }

    #[test]
    fn a_call_is_read_as_it_was_written() {
        let call = Call {
            destination: Some("org.freedesktop.systemd1"),
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
            member: "StopUnit",
            arguments: &[
                Value::String("a.scope".into()),
                Value::String("replace".into()),
            ],
        };
        let bytes = call.encode(3).unwrap();
        let length = message_length(bytes[..FIXED_HEADER].try_into().unwrap());
        assert_eq!(length.unwrap(), bytes.len());
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.kind, Kind::Other);
        assert_eq!(message.member, "StopUnit");
        assert_eq!(message.signature, "ss");
        let mut body = message.body();
        assert_eq!(body.text().unwrap(), "a.scope");
        assert_eq!(body.text().unwrap(), "replace");
        body.text().unwrap_err();
    }

    #[test]
    fn unknown_fields_are_passed_over() {
        let bytes = answer(4, 0, ["a.b", "JobRemoved", ""], &[Value::Uint32(1)]);
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.kind, Kind::Signal);
        assert_eq!(message.member, "JobRemoved");
        assert_eq!(message.body().uint32().unwrap(), 1);
    }

    /// Whatever is cut off or changed, there is an answer and no panic, and no
    /// length that would take more memory than there are bytes.
    #[test]
    fn damaged_messages_are_refused() {
        let body = [Value::Uint32(1), Value::String("/job/1".into())];
        let whole = answer(4, 9, ["org.example", "JobRemoved", "x.y"], &body);
        for end in 0..whole.len() - 8 {
            if let Ok(message) = Message::decode(&whole[..end]) {
                let mut reader = message.body();
                reader.uint32().and_then(|_| reader.text()).unwrap_err();
            }
        }
        let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap()
        };
        let mut refused = 0;
        for _ in 0..50_000 {
            let mut bytes = whole.clone();
            for _ in 0..1 + next() % 4 {
                let at = next() % bytes.len();
                bytes[at] = u8::try_from(next() % 256).unwrap();
            }
            let length = message_length(bytes[..FIXED_HEADER].try_into().unwrap());
            assert!(!length.is_ok_and(|length| length > LARGEST_MESSAGE));
            match Message::decode(&bytes) {
                Ok(message) => {
                    let mut reader = message.body();
                    if reader.uint32().and_then(|_| reader.text()).is_err() {
                        refused += 1;
                    }
                }
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 1000, "{refused}");
    }

    #[test]
    fn sizes_are_bounded() {
        let mut header = [0; FIXED_HEADER];
        header[0] = BYTE_ORDER;
        header[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(message_length(&header), Err(Problem::TooLong));
        header[0] = b'?';
        assert!(matches!(
            message_length(&header),
            Err(Problem::Malformed(_))
        ));
        let call = Call {
            destination: None,
            path: "/",
            interface: "a.b",
            member: "C",
            arguments: &[Value::bytes(&vec![0; LARGEST_MESSAGE])],
        };
        assert_eq!(call.encode(1), Err(Problem::TooLong));
    }
}
