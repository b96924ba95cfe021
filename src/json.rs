//! Writes JSON as Go's `encoding/json` does, which runc's users expect. The escapes
//! differ from serde_json: `<`, `>`, `&` and two line separators are escaped as well,
//! so that the text is safe inside HTML. Not for reading: see `document.rs`.

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};
use std::io;

/// Writes a value in one line, without a newline at the end.
///
/// # Errors
/// The value's `Serialize` fails.
pub(crate) fn compact(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    write(value, CompactFormatter)
}

/// Writes a value in many lines, with `indent` for each level, without a newline at the
/// end.
///
/// # Errors
/// The value's `Serialize` fails.
pub(crate) fn indented(value: &impl Serialize, indent: &str) -> serde_json::Result<Vec<u8>> {
    write(value, PrettyFormatter::with_indent(indent.as_bytes()))
}

fn write(value: &impl Serialize, formatter: impl Formatter) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(512);
    value.serialize(&mut Serializer::with_formatter(
        &mut text,
        HtmlSafe(formatter),
    ))?;
    Ok(text)
}

/// A formatter with Go's escapes on top of another formatter.
struct HtmlSafe<F>(F);

impl<F: Formatter> Formatter for HtmlSafe<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut characters = special.chars();
            if let Some(character) = characters.next() {
                write!(writer, "\\u{:04x}", u32::from(character))?;
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_gos() {
        let text = compact(&"a<b>&\u{2028}\"\\\n\u{1}\u{8}é").unwrap();
        let expected = r#""a\u003cb\u003e\u0026\u2028\"\\\n\u0001\bé""#;
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn levels_are_set_in() {
        let text = indented(&(1, ["a"], [(); 0]), "\t").unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "[\n\t1,\n\t[\n\t\t\"a\"\n\t],\n\t[]\n]"
        );
    }
}
