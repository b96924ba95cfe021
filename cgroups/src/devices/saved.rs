//! Stores device rules as strings: a sign and the rule as the kernel's v1 interface spells
//! it, such as "-a *:* rwm" and "+c 1:3 rw". The rules that every container has are the
//! single string "default".

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

use super::{Access, DeviceKind, DeviceRule, default_rules};

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
            rules.extend(default_rules());
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
    match rules.strip_suffix(default_rules().as_slice()) {
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
    let kind = parts.next()?;
    let (major, minor) = parts.next()?.split_once(':')?;
    let number = |text: &str| match text {
        "*" => Some(None),
        _ => text.parse().ok().map(Some),
    };
    Some(DeviceRule {
        allow: kind.starts_with('+'),
        kind: match kind.get(1..)? {
            "a" => None,
            "b" => Some(DeviceKind::Block),
            "c" => Some(DeviceKind::Character),
            _ => return None,
        },
        major: number(major)?,
        minor: number(minor)?,
        access: Access::from_letters(parts.next()?)?,
    })
}
