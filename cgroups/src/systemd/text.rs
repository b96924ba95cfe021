//! Values as people write them into annotations: GVariant text format
//! (docs.gtk.org/glib/gvariant-text-format.html), as far as properties of
//! units need it.
//!
//! A type can be said in front (`uint64 5`, `@as []`); without, a number is an
//! int32 and anything in quotes a string.

use crate::systemd::wire::Value;

/// What is wrong with a text, for an error that names it.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// How deep arrays and the like may be in each other.
const DEEPEST: u32 = 16;

/// Reads one value, which is the whole text.
pub(crate) fn parse(text: &str) -> Result<Value> {
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

/// Reads a number of seconds, which may have a fraction, as microseconds.
pub(crate) fn parse_seconds(text: &str) -> Result<Value> {
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
                .map(Value::Uint64)
                .ok_or_else(|| format!("{text} is too large"));
        }
    }
    let seconds = match parse(text)? {
        Value::Byte(number) => Some(number.into()),
        Value::Int16(number) => u64::try_from(number).ok(),
        Value::Uint16(number) => Some(number.into()),
        Value::Int32(number) => u64::try_from(number).ok(),
        Value::Uint32(number) => Some(number.into()),
        Value::Int64(number) => u64::try_from(number).ok(),
        Value::Uint64(number) => Some(number),
        _ => return Err(format!("{text} is not a number")),
    };
    let microseconds = seconds.and_then(|seconds| seconds.checked_mul(MICROSECONDS));
    microseconds
        .map(Value::Uint64)
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

    /// Takes `token` if it comes next.
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

    /// A value, of the type `wanted` if that is known.
    fn value(&mut self, wanted: Option<&str>) -> Result<Value> {
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
        };
        self.depth -= 1;
        value
    }

    /// `@as []`
    fn annotated(&mut self, wanted: Option<&str>) -> Result<Value> {
        let end = self.rest.find(char::is_whitespace);
        let (signature, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let signature = &signature[1..];
        // The longest signature that D-Bus has is 255 bytes.
        if signature.len() > 255 || single_type(signature) != Some(signature.len()) {
            return Err(format!("{signature:?} is not a type"));
        }
        self.rest = rest;
        self.value(Some(only(wanted, signature)?))
    }

    /// `true`, or a type before its value: `uint64 5`.
    fn word(&mut self, wanted: Option<&str>) -> Result<Value> {
        let is_part = |letter: char| letter.is_ascii_alphanumeric();
        let end = self.rest.find(|letter| !is_part(letter));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        let signature = match word {
            "true" | "false" => {
                only(wanted, "b")?;
                return Ok(Value::Bool(word == "true"));
            }
            "boolean" => "b",
            "byte" => "y",
            "int16" => "n",
            "uint16" => "q",
            "int32" => "i",
            "uint32" => "u",
            "int64" => "x",
            "uint64" => "t",
            "string" => "s",
            "objectpath" => "o",
            "signature" => "g",
            _ => return Err(format!("{word:?} is neither a value nor a type")),
        };
        self.value(Some(only(wanted, signature)?))
    }

    fn number(&mut self, wanted: Option<&str>) -> Result<Value> {
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
        let signature = wanted.unwrap_or("i");
        number_of(signature, number)
            .ok_or_else(|| format!("{word} is not a value of type {signature:?}"))
    }

    fn string(&mut self, wanted: Option<&str>) -> Result<Value> {
        let text = self.quoted()?;
        match wanted.unwrap_or("s") {
            "s" => Ok(Value::String(text)),
            "o" if is_object_path(&text) => Ok(Value::ObjectPath(text)),
            "g" if text.len() < 256 => Ok(Value::Signature(text)),
            other => Err(format!("{text:?} is not a value of type {other:?}")),
        }
    }

    /// `b'bytes'`, with the zero at the end that C has.
    fn byte_string(&mut self, wanted: Option<&str>) -> Result<Value> {
        self.rest = &self.rest[1..];
        only(wanted, "ay")?;
        let mut bytes = self.quoted()?.into_bytes();
        bytes.push(0);
        Ok(Value::bytes(&bytes))
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

    fn array(&mut self, wanted: Option<&str>) -> Result<Value> {
        self.expect('[')?;
        let mut element = match wanted {
            Some(signature) => Some(of_array(signature)?.to_owned()),
            None => None,
        };
        let mut values = Vec::new();
        while !self.take(']') {
            if !values.is_empty() {
                self.expect(',')?;
            }
            let value = self.value(element.as_deref())?;
            // All are of one type: that of the first.
            element.get_or_insert_with(|| value.signature());
            values.push(value);
        }
        let element = element.ok_or("an empty array has no type: write one in front, as @as")?;
        Ok(Value::Array(element, values))
    }

    fn structure(&mut self, wanted: Option<&str>) -> Result<Value> {
        self.expect('(')?;
        let mut types = match wanted {
            Some(signature) => Some(
                signature
                    .strip_prefix('(')
                    .ok_or("an unexpected structure")?,
            ),
            None => None,
        };
        let mut fields = Vec::new();
        while !self.take(')') {
            if !fields.is_empty() {
                self.expect(',')?;
                // A structure of one ends with a comma.
                if self.take(')') {
                    break;
                }
            }
            let field = match &mut types {
                None => None,
                Some(left) => {
                    let end = single_type(left).ok_or("a structure with too many fields")?;
                    let (first, rest) = left.split_at(end);
                    *left = rest;
                    Some(first)
                }
            };
            fields.push(self.value(field)?);
        }
        match (fields.is_empty(), types) {
            (false, None | Some(")")) => Ok(Value::Struct(fields)),
            _ => Err("a structure with too few fields".into()),
        }
    }

    fn dictionary(&mut self, wanted: Option<&str>) -> Result<Value> {
        self.expect('{')?;
        let mut types = match wanted {
            Some(signature) => Some(of_entry(of_array(signature)?)?),
            None => None,
        };
        let mut entries = Vec::new();
        while !self.take('}') {
            if !entries.is_empty() {
                self.expect(',')?;
            }
            let [key, value] = match &types {
                Some([key, value]) => [Some(key.as_str()), Some(value.as_str())],
                None => [None, None],
            };
            let key = self.value(key)?;
            self.expect(':')?;
            let value = self.value(value)?;
            types.get_or_insert_with(|| [key.signature(), value.signature()]);
            entries.push(Value::DictEntry(Box::new([key, value])));
        }
        let [key, value] = types.ok_or("an empty dictionary has no type: write one in front")?;
        Ok(Value::Array(format!("{{{key}{value}}}"), entries))
    }

    fn variant(&mut self, wanted: Option<&str>) -> Result<Value> {
        self.expect('<')?;
        only(wanted, "v")?;
        let value = self.value(None)?;
        self.expect('>')?;
        Ok(Value::Variant(Box::new(value)))
    }
}

/// The type that is said, unless another one is wanted.
fn only<'a>(wanted: Option<&str>, said: &'a str) -> Result<&'a str> {
    match wanted {
        Some(wanted) if wanted != said => Err(format!("type {said:?} where {wanted:?} is due")),
        _ => Ok(said),
    }
}

fn of_array(signature: &str) -> Result<&str> {
    let element = signature.strip_prefix('a');
    element.ok_or_else(|| format!("an array is not a value of type {signature:?}"))
}

fn of_entry(element: &str) -> Result<[String; 2]> {
    let inner = element
        .strip_prefix('{')
        .and_then(|inner| inner.strip_suffix('}'));
    let split = inner.and_then(|inner| Some(inner.split_at(single_type(inner)?)));
    let (key, value) =
        split.ok_or_else(|| format!("no dictionary has elements of type {element:?}"))?;
    Ok([key.to_owned(), value.to_owned()])
}

/// How many letters the first whole type of a signature has; `None` if there
/// is none that we know.
fn single_type(signature: &str) -> Option<usize> {
    match signature.as_bytes().first()? {
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b's' | b'o' | b'g' | b'v' => {
            Some(1)
        }
        b'a' => match signature.get(1..)? {
            entry if entry.starts_with('{') => {
                let key = single_type(entry.get(1..)?)?;
                let value = single_type(entry.get(1 + key..)?)?;
                let end = 1 + key + value;
                (entry.as_bytes().get(end) == Some(&b'}')).then_some(end + 2)
            }
            element => single_type(element).map(|length| length + 1),
        },
        b'(' => {
            let mut at = 1;
            while *signature.as_bytes().get(at)? != b')' {
                at += single_type(signature.get(at..)?)?;
            }
            (at > 1).then_some(at + 1)
        }
        _ => None,
    }
}

fn number_of(signature: &str, number: i128) -> Option<Value> {
    match signature {
        "y" => number.try_into().ok().map(Value::Byte),
        "n" => number.try_into().ok().map(Value::Int16),
        "q" => number.try_into().ok().map(Value::Uint16),
        "i" => number.try_into().ok().map(Value::Int32),
        "u" => number.try_into().ok().map(Value::Uint32),
        "x" => number.try_into().ok().map(Value::Int64),
        "t" => number.try_into().ok().map(Value::Uint64),
        _ => None,
    }
}

/// What a backslash stands for with what follows; nothing for a line's end.
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

/// A character by its number, of so many hexadecimal digits.
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

/// "Valid Object Paths": the bus drops the connection of who sends another.
fn is_object_path(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text == "/"
        || text
            .strip_prefix('/')
            .is_some_and(|names| names.split('/').all(is_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::String(text.into())
    }

    #[test]
    fn values() {
        let strings =
            |list: &[&str]| Value::Array("s".into(), list.iter().map(|one| text(one)).collect());
        let table = [
            ("5", Value::Int32(5)),
            (" -5 ", Value::Int32(-5)),
            ("0x1f", Value::Int32(31)),
            ("010", Value::Int32(8)),
            ("uint64 18446744073709551615", Value::Uint64(u64::MAX)),
            ("@t 5", Value::Uint64(5)),
            ("byte 0x41", Value::Byte(0x41)),
            ("true", Value::Bool(true)),
            ("boolean false", Value::Bool(false)),
            ("'it\\'s'", text("it's")),
            ("\"a\\u00e4\\n\"", text("aä\n")),
            ("objectpath '/a/b'", Value::ObjectPath("/a/b".into())),
            ("['a', 'b']", strings(&["a", "b"])),
            ("@as []", strings(&[])),
            (
                "[uint64 1, 2]",
                Value::Array("t".into(), vec![Value::Uint64(1), Value::Uint64(2)]),
            ),
            ("b'a'", Value::bytes(b"a\0")),
            (
                "[('/dev/null', 'rw')]",
                Value::Array(
                    "(ss)".into(),
                    vec![Value::Struct(vec![text("/dev/null"), text("rw")])],
                ),
            ),
            (
                "@(ts) (1, 'a')",
                Value::Struct(vec![Value::Uint64(1), text("a")]),
            ),
            ("(1,)", Value::Struct(vec![Value::Int32(1)])),
            (
                "{'a': <1>}",
                Value::Array(
                    "{sv}".into(),
                    vec![Value::DictEntry(Box::new([
                        text("a"),
                        Value::Variant(Box::new(Value::Int32(1))),
                    ]))],
                ),
            ),
            ("@a{su} {}", Value::Array("{su}".into(), vec![])),
        ];
        for (written, value) in table {
            assert_eq!(parse(written), Ok(value), "{written}");
        }
    }

    #[test]
    fn what_is_no_value() {
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
            assert_eq!(value, microseconds.map(Value::Uint64), "{written}");
        }
    }
}
