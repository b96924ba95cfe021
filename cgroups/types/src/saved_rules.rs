//! Stores device rules as strings: a sign and the rule as the kernel's v1 interface spells
//! it, such as "-a *:* rwm" and "+c 1:3 rw". The rules that every container has are the
//! single string "default".

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

use crate::device_rule::{Access, DeviceKind, DeviceRule, default_device_rules};

const DEFAULT: &str = "default";

pub(crate) fn serialize<S: Serializer>(
    rules: &Option<Vec<DeviceRule>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match rules {
        None => serializer.serialize_none(),
        Some(rules) => serializer.collect_seq(words(rules)),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<DeviceRule>>, D::Error> {
    let Some(words) = Option::<Vec<String>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let mut rules = Vec::with_capacity(words.len() + 16);
    for word in words {
        if word == DEFAULT {
            rules.extend(default_device_rules());
        } else {
            let rule = parse(&word);
            rules.push(
                rule.ok_or_else(|| D::Error::custom(format!("not a device rule: {word:?}")))?,
            );
        }
    }
    Ok(Some(rules))
}

fn words(rules: &[DeviceRule]) -> Vec<String> {
    match rules.strip_suffix(default_device_rules().as_slice()) {
        Some(rules) => {
            let default = std::iter::once(DEFAULT.to_owned());
            rules.iter().map(word).chain(default).collect()
        }
        None => rules.iter().map(word).collect(),
    }
}

fn word(rule: &DeviceRule) -> String {
    let sign = if rule.allow { '+' } else { '-' };
    let kind = match rule.kind {
        None => 'a',
        Some(DeviceKind::Block) => 'b',
        Some(DeviceKind::Character) => 'c',
    };
    let number = |number: Option<u32>| number.map_or("*".into(), |number| number.to_string());
    let (major, minor) = (number(rule.major), number(rule.minor));
    format!("{sign}{kind} {major}:{minor} {}", rule.access)
}

fn parse(word: &str) -> Option<DeviceRule> {
    let mut parts = word.split(' ');
    let (sign, kind) = parts.next()?.split_at_checked(1)?;
    let (major, minor) = parts.next()?.split_once(':')?;
    let access = Access::from_letters(parts.next()?)?;
    let number = |text: &str| match text {
        "*" => Some(None),
        _ => text.parse().ok().map(Some),
    };
    let rule = DeviceRule {
        allow: match sign {
            "+" => true,
            "-" => false,
            _ => return None,
        },
        kind: match kind {
            "a" => None,
            "b" => Some(DeviceKind::Block),
            "c" => Some(DeviceKind::Character),
            _ => return None,
        },
        major: number(major)?,
        minor: number(minor)?,
        access,
    };
    parts.next().is_none().then_some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    /// A part that is left out could be of what a rule denies.
    #[test]
    fn rules_of_another_form_are_no_rules() {
        assert!(parse("-c 1:3 rw").is_some());
        for word in [
            "-c 1:3 r w",
            "*c 1:3 rw",
            "c 1:3 rw",
            "-",
            "-c 1:3",
            "-c 1:3 rx",
        ] {
            assert_eq!(parse(word), None, "{word}");
        }
    }

    #[test]
    fn limits_are_stored_without_defaults() {
        let user = ["-a *:* rwm", "+c 195:* rw", "+b 8:0 r"].map(|text| parse(text).unwrap());
        let limits = |rules: Vec<DeviceRule>| Limits {
            pids: Some(7),
            devices: Some(rules),
            ..Limits::default()
        };
        let with_default = limits(user.into_iter().chain(default_device_rules()).collect());
        let text = serde_json::to_string(&with_default).unwrap();
        assert_eq!(
            text,
            r#"{"pids":7,"devices":["-a *:* rwm","+c 195:* rw","+b 8:0 r","default"]}"#
        );
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), with_default);
        let bare = limits(user.to_vec());
        let text = serde_json::to_string(&bare).unwrap();
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), bare);
        // Without the field, the next update would not restrict devices.
        let none = r#"{"devices":null}"#;
        assert_eq!(serde_json::to_string(&Limits::default()).unwrap(), none);
        assert_eq!(
            serde_json::from_str::<Limits>(none).unwrap(),
            Limits::default()
        );
        let error = serde_json::from_str::<Limits>("{}").unwrap_err();
        assert!(
            error.to_string().contains("missing field `devices`"),
            "{error}"
        );
        let error = serde_json::from_str::<Limits>(r#"{"devices":["+x 1:3 r"]}"#).unwrap_err();
        assert!(error.to_string().contains("not a device rule"), "{error}");
    }
}
