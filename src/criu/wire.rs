//! Protocol buffers on the wire (protobuf.dev, "Encoding"): as much as CRIU's
//! messages need.
//!
//! A crate for it would bring a description of every message, and code to walk
//! through those, for the two dozen fields used here.

use anyhow::{Context, Result, bail};

/// Kinds of values: the lowest three bits of a field's key.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FOUR_BYTES: u64 = 5;

/// A message being written, field by field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// An `int32`, `uint32` or `enum`. A negative one is ten bytes long, as the
    /// encoding has it.
    pub(super) fn number(&mut self, field: u32, value: impl Into<i64>) {
        self.key(field, VARINT);
        self.varint(value.into().cast_unsigned());
    }

    /// A `bool`.
    pub(super) fn flag(&mut self, field: u32, value: bool) {
        self.number(field, i64::from(value));
    }

    /// A `string`. CRIU takes any bytes, as paths are.
    pub(super) fn text(&mut self, field: u32, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        self.key(field, LENGTH_DELIMITED);
        self.varint(text.len() as u64);
        self.0.extend_from_slice(text);
    }

    /// A message in this one.
    pub(super) fn message(&mut self, field: u32, message: &Message) {
        self.text(field, &message.0);
    }

    /// What has been written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn key(&mut self, field: u32, kind: u64) {
        self.varint(u64::from(field) << 3 | kind);
    }

    /// Seven bits a byte, the lowest first; the highest bit says that more follow.
    fn varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                return self.0.push(low & 0x7f);
            }
            self.0.push(low | 0x80);
        }
    }
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    /// A string or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The value of an `int32` or `enum`; 0 if it is something else.
    pub(super) fn number(self) -> i32 {
        match self {
            Value::Number(value) => {
                let [a, b, c, d, ..] = value.to_le_bytes();
                i32::from_le_bytes([a, b, c, d])
            }
            Value::Bytes(_) => 0,
        }
    }

    /// The value of a `bool`.
    pub(super) fn flag(self) -> bool {
        !matches!(self, Value::Number(0) | Value::Bytes(_))
    }

    /// The bytes of a string or message; none if it is something else.
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            Value::Number(_) => &[],
        }
    }

    /// A string for people.
    pub(super) fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// The fields of a message, by number, in the order they came.
///
/// # Errors
/// The message is cut short or none.
pub(super) fn fields(mut rest: &[u8]) -> Result<Vec<(u32, Value<'_>)>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = take_varint(&mut rest)?;
        let number = u32::try_from(key >> 3).context("protocol buffer: field number")?;
        let value = match key & 7 {
            VARINT => Value::Number(take_varint(&mut rest)?),
            EIGHT_BYTES => Value::Bytes(take(&mut rest, 8)?),
            FOUR_BYTES => Value::Bytes(take(&mut rest, 4)?),
            LENGTH_DELIMITED => {
                let length = take_varint(&mut rest)?;
                let length = usize::try_from(length).context("protocol buffer: length")?;
                Value::Bytes(take(&mut rest, length)?)
            }
            kind => bail!("protocol buffer: field {number} is of the unknown kind {kind}"),
        };
        fields.push((number, value));
    }
    Ok(fields)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, after) = rest
        .split_at_checked(length)
        .context("protocol buffer: cut short")?;
    *rest = after;
    Ok(taken)
}

fn take_varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = u64::from(take(rest, 1)?[0]);
        value |= (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("protocol buffer: a number of more than ten bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_that_of_protocol_buffers() {
        let mut message = Message::default();
        message.number(1, 150);
        message.text(2, "testing");
        message.flag(16, true);
        // The first two are the examples of the encoding's description.
        let expected = b"\x08\x96\x01\x12\x07testing\x80\x01\x01";
        assert_eq!(message.bytes(), expected);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut inner = Message::default();
        inner.text(1, "post-dump");
        let mut message = Message::default();
        message.number(1, -1);
        message.flag(2, false);
        message.message(5, &inner);
        message.number(38, 0x4000_0000_u32);
        let fields = fields(message.bytes()).expect("fields");
        let numbers: Vec<u32> = fields.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 2, 5, 38]);
        assert_eq!(fields[0].1.number(), -1);
        assert!(!fields[1].1.flag());
        let inside = super::fields(fields[2].1.bytes()).expect("inner");
        assert_eq!(inside[0].1.text(), "post-dump");
        assert_eq!(fields[3].1.number(), 0x4000_0000);
    }

    #[test]
    fn other_kinds_are_skipped_and_rubbish_is_refused() {
        let fixed = b"\x0d\x01\x02\x03\x04\x11\x01\x02\x03\x04\x05\x06\x07\x08\x18\x01";
        assert_eq!(fields(fixed).expect("fields").len(), 3);
        for rubbish in [
            &b"\x08"[..],
            b"\x12\x05ab",
            b"\x0b",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            fields(rubbish).expect_err("refused");
        }
    }
}
