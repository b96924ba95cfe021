//! What a command line may hold, as tables the compiler fills in.
//!
//! A command's options are a struct; `definitions!` takes it with an attribute
//! for each field and makes a [`Definition`] of it that reading (`cli.rs`), the
//! help (`cli/help.rs`), the man pages and the completions all use. Building
//! the tables costs a process that lives for a millisecond nothing.
//!
//! Not for reading words or printing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// A command, or the program itself with its global options.
#[derive(Debug)]
pub(crate) struct Definition {
    /// What is typed: "create".
    pub(crate) name: &'static str,
    /// What it does, in a line.
    pub(crate) about: Text,
    /// What it does, in full.
    pub(crate) long_about: Option<&'static str>,
    /// What stands below the usage.
    pub(crate) after_help: Option<&'static str>,
    /// Its options, in the order of the help.
    pub(crate) flags: Vec<&'static Argument>,
    /// What is typed beside options, in order.
    pub(crate) words: Vec<&'static Argument>,
}

/// The lines of a comment, which are one line of help.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text(pub(crate) &'static [&'static str]);

impl std::fmt::Display for Text {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, line) in self.0.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            write!(formatter, "{space}{}", line.trim())?;
        }
        Ok(())
    }
}

/// A flag, or a word that is none.
#[derive(Debug)]
pub(crate) struct Argument {
    /// The field it fills, which is its long spelling with "_" for "-".
    pub(crate) field: &'static str,
    pub(crate) help: Text,
    /// Whether it is a flag.
    pub(crate) long: bool,
    pub(crate) short: Option<char>,
    /// What help calls its value; empty if it takes none.
    pub(crate) value_name: &'static str,
    /// Its value if it is not given; empty for none.
    pub(crate) default_value: &'static str,
    pub(crate) required: bool,
    pub(crate) hidden: bool,
    /// Whether a value follows it.
    pub(crate) takes_value: bool,
    /// Whether each time it is given adds a value.
    pub(crate) many: bool,
    /// What is wrong with a value.
    pub(crate) check: fn(&OsStr) -> Result<(), String>,
}

impl Argument {
    pub(crate) const fn of<T: Field>(field: &'static str, help: &'static [&'static str]) -> Self {
        Argument {
            field,
            help: Text(help),
            long: false,
            short: None,
            value_name: "",
            default_value: "",
            required: false,
            hidden: false,
            takes_value: T::TAKES_VALUE,
            many: T::MANY,
            check: T::check,
        }
    }

    /// Its long spelling, without dashes before it.
    pub(crate) fn name(&self) -> String {
        self.field.replace('_', "-")
    }

    /// Whether that is what was typed behind the dashes.
    pub(crate) fn is_named(&self, typed: &str) -> bool {
        let mut letters = typed.chars();
        let short = letters.next().filter(|_| letters.next().is_none());
        let spelled = self.field.bytes().map(|byte| match byte {
            b'_' => b'-',
            other => other,
        });
        short.is_some() && self.short == short || spelled.eq(typed.bytes())
    }
}

/// A type a field may have.
pub(crate) trait Field: Sized {
    const TAKES_VALUE: bool = true;
    const MANY: bool = false;
    /// What it is before anything is given.
    fn initial(default_value: &str) -> Self;
    /// Takes a value that was given.
    fn set(&mut self, value: OsString);
    /// What is wrong with a value.
    fn check(_value: &OsStr) -> Result<(), String> {
        Ok(())
    }
}

impl Field for bool {
    const TAKES_VALUE: bool = false;
    fn initial(_: &str) -> bool {
        false
    }
    fn set(&mut self, value: OsString) {
        *self = truth(&value) == Some(true);
    }
    fn check(value: &OsStr) -> Result<(), String> {
        truth(value).map(drop).ok_or_else(|| "parse error".into())
    }
}

/// One that is as it is elsewhere if it is not given.
impl Field for Option<bool> {
    const TAKES_VALUE: bool = false;
    fn initial(_: &str) -> Option<bool> {
        None
    }
    fn set(&mut self, value: OsString) {
        *self = truth(&value);
    }
    fn check(value: &OsStr) -> Result<(), String> {
        bool::check(value)
    }
}

impl Field for OsString {
    fn initial(default_value: &str) -> OsString {
        default_value.into()
    }
    fn set(&mut self, value: OsString) {
        *self = value;
    }
}

impl Field for Option<OsString> {
    fn initial(_: &str) -> Option<OsString> {
        None
    }
    fn set(&mut self, value: OsString) {
        *self = Some(value);
    }
}

impl Field for Vec<OsString> {
    const MANY: bool = true;
    fn initial(_: &str) -> Vec<OsString> {
        Vec::new()
    }
    fn set(&mut self, value: OsString) {
        self.push(value);
    }
}

impl Field for u32 {
    fn initial(default_value: &str) -> u32 {
        count(default_value).unwrap_or(0)
    }
    fn set(&mut self, value: OsString) {
        if let Ok(number) = count(&value.to_string_lossy()) {
            *self = number;
        }
    }
    fn check(value: &OsStr) -> Result<(), String> {
        count(&value.to_string_lossy()).map(drop)
    }
}

/// The number of a descriptor.
impl Field for i32 {
    fn initial(default_value: &str) -> i32 {
        descriptor(default_value).unwrap_or(-1)
    }
    fn set(&mut self, value: OsString) {
        if let Ok(number) = descriptor(&value.to_string_lossy()) {
            *self = number;
        }
    }
    fn check(value: &OsStr) -> Result<(), String> {
        descriptor(&value.to_string_lossy()).map(drop)
    }
}

impl Field for Vec<u32> {
    const MANY: bool = true;
    fn initial(_: &str) -> Vec<u32> {
        Vec::new()
    }
    fn set(&mut self, value: OsString) {
        self.extend(count(&value.to_string_lossy()));
    }
    fn check(value: &OsStr) -> Result<(), String> {
        u32::check(value)
    }
}

/// A truth value as Go spells it; nothing at all means true.
pub(crate) fn truth(value: &OsStr) -> Option<bool> {
    match value.as_bytes() {
        b"" | b"1" | b"t" | b"T" | b"true" | b"True" | b"TRUE" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"False" | b"FALSE" => Some(false),
        _ => None,
    }
}

/// Reads a number as Go's `strconv.ParseInt` with base 0 does: decimal, or
/// with a prefix hexadecimal, octal or binary.
pub(crate) fn count(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
        [b'0', b'o' | b'O', ..] => (&digits[2..], 8),
        [b'0', b'b' | b'B', ..] => (&digits[2..], 2),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.starts_with('+') {
        return Err("invalid digit found in string".to_owned());
    }
    u32::from_str_radix(digits, radix).map_err(|err| err.to_string())
}

/// The number of a descriptor; a negative one, which stands for none, is -1.
fn descriptor(text: &str) -> Result<i32, String> {
    match text.strip_prefix('-') {
        Some(number) => count(number).map(|_| -1),
        None => {
            let number = count(text)?;
            i32::try_from(number).map_err(|err| err.to_string())
        }
    }
}

/// Options that are read into a struct.
pub(crate) trait Options: Fill + Sized {
    /// The struct as it is when nothing is given.
    fn initial() -> Self;
    /// Adds the flags and the other words it knows.
    fn list(definition: &mut Definition);
}

/// A struct whose fields can be set by their names.
pub(crate) trait Fill {
    /// Takes the value of a flag or word.
    fn set(&mut self, field: &str, value: OsString);
}

/// Options that are a command's.
pub(crate) trait Defined: Options {
    fn definition() -> Definition;
}

/// Makes [`Options`] of each struct: `#[arg(…)]` describes a field, and
/// `#[command(flatten)]` takes over the fields of another struct. A struct with
/// `#[command(name = …)]` is [`Defined`] as well.
macro_rules! definitions {
    () => {};
    (
        $(#[doc = $about:literal])*
        #[command(name = $name:literal $(, $key:ident = $text:expr)* $(,)?)]
        pub(crate) struct $args:ident { $($body:tt)* }
        $($rest:tt)*
    ) => {
        definitions!(@struct $args [$($about)*] [] [] $($body)*);
        impl Defined for $args {
            fn definition() -> Definition {
                let mut definition = Definition::named($name, &[$($about),*]);
                $(definition.$key = Some($text);)*
                $args::list(&mut definition);
                definition
            }
        }
        definitions!($($rest)*);
    };
    (
        $(#[doc = $about:literal])*
        pub(crate) struct $args:ident { $($body:tt)* }
        $($rest:tt)*
    ) => {
        definitions!(@struct $args [$($about)*] [] [] $($body)*);
        definitions!($($rest)*);
    };

    // One field after the other goes from the body into the two lists.
    (@struct $args:ident $about:tt [$($parts:tt)*] [$($fields:tt)*]
        #[command(flatten)] pub(crate) $field:ident: $type:ty, $($body:tt)*
    ) => {
        definitions!(@struct $args $about [$($parts)* ($field $type)] [$($fields)*] $($body)*);
    };
    (@struct $args:ident $about:tt [$($parts:tt)*] [$($fields:tt)*]
        $(#[doc = $help:literal])* #[arg($($how:tt)*)] pub(crate) $field:ident: $type:ty,
        $($body:tt)*
    ) => {
        definitions!(@struct $args $about [$($parts)*]
            [$($fields)* ($field $type [$($help)*] [$($how)*])] $($body)*);
    };
    (@struct $args:ident [$($about:literal)*] [$(($part:ident $part_type:ty))*]
        [$(($field:ident $type:ty [$($help:literal)*] [$($how:tt)*]))*]
    ) => {
        $(#[doc = $about])*
        #[derive(Debug)]
        pub(crate) struct $args {
            $(pub(crate) $part: $part_type,)*
            $($(#[doc = $help])* pub(crate) $field: $type,)*
        }

        impl $args {
            const ARGUMENTS: &'static [Argument] = &[$(definitions!(@how
                Argument::of::<$type>(stringify!($field), &[$($help),*]);
                $field; $($how)*
            )),*];
        }

        impl Options for $args {
            fn initial() -> $args {
                $args {
                    $($part: <$part_type>::initial(),)*
                    $($field: <$type as Field>::initial(
                        default_of($args::ARGUMENTS, stringify!($field))
                    ),)*
                }
            }

            fn list(definition: &mut Definition) {
                $(<$part_type>::list(definition);)*
                definition.add($args::ARGUMENTS);
            }
        }

        impl Fill for $args {
            #[allow(unused_variables, reason = "a command may have no options")]
            fn set(&mut self, field: &str, value: OsString) {
                match field {
                    $(stringify!($field) => Field::set(&mut self.$field, value),)*
                    _ => definitions!(@parts self field value $($part)*),
                }
            }
        }
    };
    (@parts $self:ident $field:ident $value:ident) => { {} };
    (@parts $self:ident $field:ident $value:ident $part:ident) => {
        $self.$part.set($field, $value)
    };

    (@how $so_far:expr; $field:ident; ) => { $so_far };
    (@how $so_far:expr; $field:ident; short $(, $($rest:tt)*)?) => {
        definitions!(@how Argument { short: Some(stringify!($field).as_bytes()[0] as char), ..$so_far };
            $field; $($($rest)*)?)
    };
    (@how $so_far:expr; $field:ident; short = $letter:literal $(, $($rest:tt)*)?) => {
        definitions!(@how Argument { short: Some($letter), ..$so_far }; $field; $($($rest)*)?)
    };
    (@how $so_far:expr; $field:ident; $key:ident $(, $($rest:tt)*)?) => {
        definitions!(@how Argument { $key: true, ..$so_far }; $field; $($($rest)*)?)
    };
    (@how $so_far:expr; $field:ident; $key:ident = $value:literal $(, $($rest:tt)*)?) => {
        definitions!(@how Argument { $key: $value, ..$so_far }; $field; $($($rest)*)?)
    };
}
pub(crate) use definitions;

/// The value of a field that is not given; empty for none.
pub(crate) fn default_of(arguments: &[Argument], field: &str) -> &'static str {
    let mut arguments = arguments.iter();
    arguments
        .find(|argument| argument.field == field)
        .map_or("", |argument| argument.default_value)
}

impl Definition {
    pub(crate) fn named(name: &'static str, about: &'static [&'static str]) -> Definition {
        Definition {
            name,
            about: Text(about),
            long_about: None,
            after_help: None,
            flags: Vec::with_capacity(24),
            words: Vec::new(),
        }
    }

    /// What is typed after the program's name.
    pub(crate) fn usage(&self) -> String {
        let mut usage = format!("{} [options]", self.name);
        for expected in &self.words {
            let (name, more) = (expected.value_name, if expected.many { "..." } else { "" });
            usage += &match expected.required {
                true => format!(" <{name}>{more}"),
                false => format!(" [{name}]{more}"),
            };
        }
        usage
    }

    pub(crate) fn add(&mut self, arguments: &'static [Argument]) {
        for argument in arguments {
            if argument.long {
                self.flags.push(argument);
            } else {
                self.words.push(argument);
            }
        }
    }
}
