//! Parses values of annotations, which are in GVariant's text format
//! (docs.gtk.org/glib/gvariant-text-format.html). It supports the types that properties of
//! units have.
//!
//! A type may precede a value (`uint64 5`, `@as []`). Without a type, a number is an int32
//! and quoted text is a string.

use zbus::{Array, Dict, ObjectPath, Signature, Structure, Variant};

/// The result of parsing; the error tells what is wrong with the text.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// The maximum depth of nested containers.
const DEEPEST: u32 = 16;

/// The maximum length of a type's signature ("Valid Signatures"). zbus panics when it
/// writes a longer one.
const LONGEST_TYPE: usize = 255;

/// Parses a text that is one value.
pub(crate) fn parse(text: &str) -> Result<Variant<'static>> {
    let mut parser = Parser {
        rest: text,
        depth: 0,
    };
    let value = parser.value(None)?;
    parser.skip_blanks();
    match parser.rest {
        "" => Ok(value),
        rest => Err(format!("{rest:?} after the value")),
    }
}

/// Parses a number of seconds, which may have a fraction, and returns microseconds.
pub(crate) fn parse_seconds(text: &str) -> Result<Variant<'static>> {
    const MICROSECONDS: u64 = 1_000_000;
    let text = text.trim();
    let number = match text.split_once(char::is_whitespace) {
        Some(("double", number)) => number.trim_start(),
        _ => text,
    };
    if let Some((whole, fraction)) = number.split_once('.') {
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits(whole) && digits(fraction) {
            let fraction = format!("{fraction:0<6}");
            let seconds = whole.parse::<u64>().ok();
            let rest = fraction[..6].parse::<u64>().ok();
            let microseconds = seconds.and_then(|seconds| seconds.checked_mul(MICROSECONDS));
            let sum = microseconds.and_then(|whole| whole.checked_add(rest?));
            return sum
                .map(Variant::U64)
                .ok_or_else(|| format!("{text} is too large"));
        }
    }
    let seconds = match parse(text)? {
        Variant::U8(number) => Some(number.into()),
        Variant::I16(number) => u64::try_from(number).ok(),
        Variant::U16(number) => Some(number.into()),
        Variant::I32(number) => u64::try_from(number).ok(),
        Variant::U32(number) => Some(number.into()),
        Variant::I64(number) => u64::try_from(number).ok(),
        Variant::U64(number) => Some(number),
        _ => return Err(format!("{text} is not a number")),
    };
    let microseconds = seconds.and_then(|seconds| seconds.checked_mul(MICROSECONDS));
    microseconds
        .map(Variant::U64)
        .ok_or_else(|| format!("{text} seconds are too many or too few"))
}

#[derive(Debug)]
struct Parser<'a> {
    rest: &'a str,
    depth: u32,
}

impl Parser<'_> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Consumes `token` if it is next.
    fn take(&mut self, token: char) -> bool {
        self.skip_blanks();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: char) -> Result<()> {
        match self.take(token) {
            true => Ok(()),
            false => Err(format!("{token:?} expected before {:?}", self.rest)),
        }
    }

    /// Parses a value, of the type `wanted` if that is known.
    fn value(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("too deep".into());
        }
        self.skip_blanks();
        let value = match self.rest.chars().next() {
            None => Err("a value is missing".into()),
            Some('@') => self.annotated(wanted),
            Some('\'' | '"') => self.string(wanted),
            Some('b') if self.rest[1..].starts_with(['\'', '"']) => self.byte_string(wanted),
            Some('[') => self.array(wanted),
            Some('(') => self.structure(wanted),
            Some('{') => self.dictionary(wanted),
            Some('<') => self.variant(wanted),
            Some(first) if first.is_ascii_alphabetic() => self.word(wanted),
            Some(_) => self.number(wanted),
        }?;
        self.depth -= 1;
        match value.value_signature().string_len() {
            ..=LONGEST_TYPE => Ok(value),
            _ => Err("a type that is too long".into()),
        }
    }

    /// Parses a type and a value, such as `@as []`.
    fn annotated(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        let end = self.rest.find(char::is_whitespace);
        let (signature, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let text = &signature[1..];
        let signature = single_type(text).ok_or_else(|| format!("{text:?} is not a type"))?;
        self.rest = rest;
        self.value(Some(only(wanted, &signature)?))
    }

    /// Parses `true`, `false`, or a type's name and a value, such as `uint64 5`.
    fn word(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        let is_part = |letter: char| letter.is_ascii_alphanumeric();
        let end = self.rest.find(|letter| !is_part(letter));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        let signature = match word {
            "true" | "false" => {
                only(wanted, &Signature::Bool)?;
                return Ok(Variant::Bool(word == "true"));
            }
            "boolean" => &Signature::Bool,
            "byte" => &Signature::U8,
            "int16" => &Signature::I16,
            "uint16" => &Signature::U16,
            "int32" => &Signature::I32,
            "uint32" => &Signature::U32,
            "int64" => &Signature::I64,
            "uint64" => &Signature::U64,
            "string" => &Signature::Str,
            "objectpath" => &Signature::ObjectPath,
            "signature" => &Signature::Signature,
            _ => return Err(format!("{word:?} is neither a value nor a type")),
        };
        self.value(Some(only(wanted, signature)?))
    }

    fn number(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
        let end = self.rest.find(|letter| !is_part(letter));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let (sign, digits) = match word.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, word.strip_prefix('+').unwrap_or(word)),
        };
        let number = match (digits.strip_prefix("0x"), digits.strip_prefix('0')) {
            (Some(hexadecimal), _) => i128::from_str_radix(hexadecimal, 16),
            (None, Some(octal)) if !octal.is_empty() => i128::from_str_radix(octal, 8),
            _ => digits.parse(),
        };
        let is_digits = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let Some(number) = number
            .ok()
            .filter(|_| is_digits)
            .map(|number: i128| sign * number)
        else {
            return Err(format!(
                "{:?} is not a value",
                if word.is_empty() { self.rest } else { word }
            ));
        };
        self.rest = rest;
        let signature = wanted.unwrap_or(&Signature::I32);
        number_of(signature, number)
            .ok_or_else(|| format!("{word} is not a value of type \"{signature}\""))
    }

    fn string(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        let text = self.quoted()?;
        let wanted = wanted.unwrap_or(&Signature::Str);
        let value = match wanted {
            Signature::Str => Some(Variant::from(text.clone())),
            Signature::ObjectPath => ObjectPath::try_from(text.clone()).ok().map(Variant::from),
            Signature::Signature => single_type(&text).map(Variant::from),
            _ => None,
        };
        value.ok_or_else(|| format!("{text:?} is not a value of type \"{wanted}\""))
    }

    /// Parses `b'bytes'` and adds the NUL byte that C strings end with.
    fn byte_string(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        self.rest = &self.rest[1..];
        only(wanted, &Signature::static_array(&Signature::U8))?;
        let mut bytes = self.quoted()?.into_bytes();
        bytes.push(0);
        Ok(Variant::from(bytes))
    }

    fn quoted(&mut self) -> Result<String> {
        let mut letters = self.rest.chars();
        let quote = letters.next();
        let mut text = String::new();
        loop {
            match letters.next() {
                None => return Err("a string without an end".into()),
                end if end == quote => break,
                Some('\\') => text.extend(escaped(&mut letters)?),
                Some('\0') => return Err("a string with a zero byte".into()),
                Some(letter) => text.push(letter),
            }
        }
        self.rest = letters.as_str();
        Ok(text)
    }

    fn array(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        self.expect('[')?;
        let mut array = match wanted {
            None => None,
            Some(Signature::Array(element)) => Some(Array::new(element)),
            Some(other) => return Err(format!("an array is not a value of type \"{other}\"")),
        };
        let mut is_first = true;
        while !self.take(']') {
            if !std::mem::take(&mut is_first) {
                self.expect(',')?;
            }
            let element = array
                .as_ref()
                .map(|array| array.element_signature().clone());
            let value = self.value(element.as_ref())?;
            // All elements have the type of the first.
            let array = array.get_or_insert_with(|| Array::new(value.value_signature()));
            array.append(value).map_err(|error| error.to_string())?;
        }
        let array = array.ok_or("an empty array has no type: write one in front, as @as")?;
        Ok(Variant::Array(array))
    }

    fn structure(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        self.expect('(')?;
        let types: Option<Vec<&Signature>> = match wanted {
            None => None,
            Some(Signature::Structure(fields)) => Some(fields.iter().collect()),
            Some(_) => return Err("an unexpected structure".into()),
        };
        let mut fields = Vec::new();
        while !self.take(')') {
            if !fields.is_empty() {
                self.expect(',')?;
                // A structure with one member ends with a comma.
                if self.take(')') {
                    break;
                }
            }
            let field = match &types {
                None => None,
                Some(types) => Some(
                    *types
                        .get(fields.len())
                        .ok_or("a structure with too many fields")?,
                ),
            };
            fields.push(self.value(field)?);
        }
        if fields.is_empty() || types.is_some_and(|types| types.len() != fields.len()) {
            return Err("a structure with too few fields".into());
        }
        let fields = fields.into_iter();
        let builder = fields.fold(Structure::builder(), |builder, field| {
            builder.append_field(field)
        });
        let structure = builder.build().map_err(|error| error.to_string())?;
        Ok(Variant::Structure(structure))
    }

    fn dictionary(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        self.expect('{')?;
        let mut types = match wanted {
            None => None,
            Some(Signature::Dict { key, value }) => {
                Some([key, value].map(|one| one.signature().clone()))
            }
            Some(other) => return Err(format!("a dictionary is not a value of type \"{other}\"")),
        };
        let mut entries = Vec::new();
        while !self.take('}') {
            if !entries.is_empty() {
                self.expect(',')?;
            }
            let key = self.value(types.as_ref().map(|[key, _]| key))?;
            self.expect(':')?;
            let value = self.value(types.as_ref().map(|[_, value]| value))?;
            types.get_or_insert_with(|| [&key, &value].map(|one| one.value_signature().clone()));
            entries.push((key, value));
        }
        let [key, value] = types.ok_or("an empty dictionary has no type: write one in front")?;
        let mut dictionary = Dict::new(&key, &value);
        for (key, value) in entries {
            dictionary
                .append(key, value)
                .map_err(|error| error.to_string())?;
        }
        Ok(Variant::Dict(dictionary))
    }

    fn variant(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        self.expect('<')?;
        only(wanted, &Signature::Variant)?;
        let value = self.value(None)?;
        self.expect('>')?;
        Ok(Variant::Variant(Box::new(value)))
    }
}

/// Returns the type with this signature. Refuses several types, of which zbus would make a
/// structure.
fn single_type(letters: &str) -> Option<Signature> {
    let signature = Signature::try_from(letters).ok()?;
    let is_single = signature.to_string() == letters && letters.len() <= LONGEST_TYPE;
    is_single.then_some(signature)
}

/// Returns the type that the text names. Fails if another type is wanted.
fn only<'a>(wanted: Option<&'a Signature>, said: &'a Signature) -> Result<&'a Signature> {
    match wanted {
        Some(wanted) if wanted != said => Err(format!("type \"{said}\" where \"{wanted}\" is due")),
        _ => Ok(said),
    }
}

fn number_of(signature: &Signature, number: i128) -> Option<Variant<'static>> {
    match signature {
        Signature::U8 => number.try_into().ok().map(Variant::U8),
        Signature::I16 => number.try_into().ok().map(Variant::I16),
        Signature::U16 => number.try_into().ok().map(Variant::U16),
        Signature::I32 => number.try_into().ok().map(Variant::I32),
        Signature::U32 => number.try_into().ok().map(Variant::U32),
        Signature::I64 => number.try_into().ok().map(Variant::I64),
        Signature::U64 => number.try_into().ok().map(Variant::U64),
        _ => None,
    }
}

/// Returns the character of an escape sequence, or `None` for an escaped end of line.
fn escaped(letters: &mut std::str::Chars) -> Result<Option<char>> {
    Ok(match letters.next() {
        None => return Err("a string without an end".into()),
        Some('a') => Some('\u{7}'),
        Some('b') => Some('\u{8}'),
        Some('f') => Some('\u{c}'),
        Some('n') => Some('\n'),
        Some('r') => Some('\r'),
        Some('t') => Some('\t'),
        Some('v') => Some('\u{b}'),
        Some('u') => Some(code_point(letters, 4)?),
        Some('U') => Some(code_point(letters, 8)?),
        Some('\n') => None,
        Some(letter) => Some(letter),
    })
}

/// Returns the character with the number that the next `digits` hexadecimal digits give.
fn code_point(letters: &mut std::str::Chars, digits: usize) -> Result<char> {
    let rest = letters.as_str();
    let digits = rest.get(..digits).ok_or("a short Unicode escape")?;
    *letters = rest[digits.len()..].chars();
    let code = u32::from_str_radix(digits, 16)
        .ok()
        .and_then(char::from_u32);
    code.filter(|&letter| letter != '\0')
        .ok_or_else(|| format!("{digits:?} is no character"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn values() {
        let table = [
            ("5", Variant::from(5)),
            (" -5 ", Variant::from(-5)),
            ("0x1f", Variant::from(31)),
            ("010", Variant::from(8)),
            ("uint64 18446744073709551615", Variant::from(u64::MAX)),
            ("@t 5", Variant::from(5_u64)),
            ("byte 0x41", Variant::from(0x41_u8)),
            ("true", Variant::from(true)),
            ("boolean false", Variant::from(false)),
            ("'it\\'s'", Variant::from("it's")),
            ("\"a\\u00e4\\n\"", Variant::from("aä\n")),
            (
                "objectpath '/a/b'",
                Variant::from(ObjectPath::try_from("/a/b").unwrap()),
            ),
            (
                "signature 'as'",
                Variant::from(Signature::try_from("as").unwrap()),
            ),
            ("['a', 'b']", Variant::from(vec!["a", "b"])),
            ("@as []", Variant::from(Vec::<&str>::new())),
            ("[uint64 1, 2]", Variant::from(vec![1_u64, 2])),
            ("b'a'", Variant::from(b"a\0".to_vec())),
            (
                "[('/dev/null', 'rw')]",
                Variant::from(vec![("/dev/null", "rw")]),
            ),
            ("@(ts) (1, 'a')", Variant::from((1_u64, "a"))),
            ("(1,)", Variant::from((1,))),
            (
                "{'a': <1>}",
                Variant::from(HashMap::from([("a", Variant::from(1))])),
            ),
            ("@a{su} {}", Variant::from(HashMap::<&str, u32>::new())),
        ];
        for (written, value) in table {
            assert_eq!(parse(written), Ok(value), "{written}");
        }
    }

    #[test]
    fn texts_that_are_not_values() {
        for written in [
            "",
            "5 6",
            "2147483648",
            "uint64 -1",
            "byte 256",
            "--5",
            "5.5",
            "yes",
            "'a",
            "[]",
            "[1, 'a']",
            "@as [1]",
            "@a 1",
            "@q",
            "(",
            "()",
            "[1",
            "{'a' 1}",
            "objectpath 'x'",
            "'\\u12'",
            "'\\u0000'",
            "uint64 'a'",
            "@d 1",
            "<1",
            "b'",
            "0xg",
            "+",
            "@(ts) (1)",
            "uint64 uint32 1",
            "ä",
            "'\0'",
            "@ss ('a', 'b')",
            "signature 'ss'",
        ] {
            assert!(
                parse(written).is_err(),
                "{written:?} is {:?}",
                parse(written)
            );
        }
        parse(&"[".repeat(100_000)).unwrap_err();
        parse(&"@".repeat(100_000)).unwrap_err();
        parse(&format!("@{}s 1", "a".repeat(100_000))).unwrap_err();
        let many = "1, ".repeat(LONGEST_TYPE - 1);
        parse(&format!("({many})")).unwrap_err();
        parse(&format!("<[({many})]>")).unwrap_err();
        parse(&format!("@a({}) []", "i".repeat(LONGEST_TYPE))).unwrap_err();
        parse(&format!("signature '({})'", "i".repeat(LONGEST_TYPE))).unwrap_err();
    }

    #[test]
    fn seconds_become_microseconds() {
        for (written, microseconds) in [
            ("2", Some(2_000_000)),
            ("uint64 90", Some(90_000_000)),
            ("1.5", Some(1_500_000)),
            ("double 0.0000019", Some(1)),
            ("-1", None),
            ("'2'", None),
            ("1e3", None),
            ("uint64 18446744073709551615", None),
            ("18446744073709551615.5", None),
        ] {
            let value = parse_seconds(written).ok();
            assert_eq!(value, microseconds.map(Variant::U64), "{written}");
        }
    }
}
