//! Names of devices in files of the Container Device Interface: `vendor/class=name`.

use std::error;
use std::fmt;
use std::str::FromStr;

/// The full name of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceName(String);

/// A text that is not a device name, and the reason.
#[derive(Debug)]
pub struct InvalidName {
    name: String,
    reason: String,
}

impl DeviceName {
    /// The name as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kind, `vendor/class`, and the name within that kind.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_once('=').unwrap_or_default()
    }
}

impl FromStr for DeviceName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<DeviceName, InvalidName> {
        let checked = match name.split_once('=') {
            _ if name.starts_with('/') => Err("it is a path".to_owned()),
            None => Err("it is not of the form vendor/class=name".to_owned()),
            Some((kind, device)) => check_kind(kind).and_then(|()| check_device(device)),
        };
        match checked {
            Ok(()) => Ok(DeviceName(name.to_owned())),
            Err(reason) => Err(InvalidName {
                name: name.to_owned(),
                reason,
            }),
        }
    }
}

/// Checks `vendor/class`.
///
/// # Errors
/// The kind is invalid; the error is the reason.
pub fn check_kind(kind: &str) -> Result<(), String> {
    let (vendor, class) = kind
        .split_once('/')
        .ok_or_else(|| format!("{kind:?} is not of the form vendor/class"))?;
    check("vendor", vendor, |first| first.is_ascii_alphabetic(), "-_.")?;
    check("class", class, |first| first.is_ascii_alphabetic(), "-_.")
}

/// Checks the name of a device within its kind.
///
/// # Errors
/// The name is invalid; the error is the reason.
pub fn check_device(name: &str) -> Result<(), String> {
    check("name", name, |first| first.is_ascii_alphanumeric(), "-_.:")
}

fn check(what: &str, name: &str, may_begin: fn(char) -> bool, marks: &str) -> Result<(), String> {
    let is_inside = |letter: char| letter.is_ascii_alphanumeric() || marks.contains(letter);
    let fault = match (name.chars().next(), name.chars().next_back()) {
        (None, _) | (_, None) => "it is empty".to_owned(),
        (Some(first), _) if !may_begin(first) => format!("it begins with {first:?}"),
        (_, Some(last)) if !last.is_ascii_alphanumeric() => format!("it ends with {last:?}"),
        _ => match name.chars().find(|letter| !is_inside(*letter)) {
            Some(letter) => format!("it has {letter:?} in it"),
            None => return Ok(()),
        },
    };
    Err(format!("{what} {name:?}: {fault}"))
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid CDI device name {:?}: {}",
            self.name, self.reason
        )
    }
}

impl error::Error for InvalidName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_vendor_a_class_and_a_name() {
        for name in [
            "vendor.com/class=name",
            "v/c=n",
            "v/c=0",
            "nvidia.com/gpu=0:0",
            "nvidia.com/gpu=GPU-edfee158-11c1-52b8",
            "a_b-c.d/e_f-g.h=i_j-k.l:m",
            // Only the first "/" and the first "=" are separators.
            "Vendor9/Class9=Name9",
        ] {
            assert_eq!(name.parse::<DeviceName>().expect(name).as_str(), name);
        }
    }

    #[test]
    fn what_is_no_name_is_told_why() {
        for (name, reason) in [
            ("", "it is not of the form vendor/class=name"),
            ("all", "it is not of the form vendor/class=name"),
            ("/dev/null", "it is a path"),
            ("/v/c=n", "it is a path"),
            ("c=n", "\"c\" is not of the form vendor/class"),
            ("/=n", "it is a path"),
            ("v/=n", "class \"\": it is empty"),
            ("v/c=", "name \"\": it is empty"),
            ("9v/c=n", "vendor \"9v\": it begins with '9'"),
            ("v/9c=n", "class \"9c\": it begins with '9'"),
            ("v-/c=n", "vendor \"v-\": it ends with '-'"),
            ("v/c_=n", "class \"c_\": it ends with '_'"),
            ("v/a/b=n", "class \"a/b\": it has '/' in it"),
            ("v:w/c=n", "vendor \"v:w\": it has ':' in it"),
            ("v/c=-n", "name \"-n\": it begins with '-'"),
            ("v/c=n.", "name \"n.\": it ends with '.'"),
            ("v/c=a=b", "name \"a=b\": it has '=' in it"),
            ("v/c=ä", "name \"ä\": it begins with 'ä'"),
            (" v/c=n", "vendor \" v\": it begins with ' '"),
        ] {
            let error = name.parse::<DeviceName>().expect_err(name).to_string();
            assert_eq!(error, format!("invalid CDI device name {name:?}: {reason}"));
        }
    }
}
