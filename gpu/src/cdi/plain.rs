//! Converts plain YAML, as programs write it, to JSON. JSON is parsed in a tenth of the time
//! that parsers of all of YAML take (docs/architecture.md).
//!
//! Other YAML is not converted: whatever is not certain is left to these parsers.

/// Converts a text to JSON. Returns nothing if it has lines of other forms than `key: value`,
/// `key:` and `- value`, or characters other than printable ASCII.
pub(super) fn to_json(yaml: &str) -> Option<String> {
    let is_plain = |byte: u8| matches!(byte, b'\n' | b' '..=b'~');
    if !yaml.bytes().all(is_plain) {
        return None;
    }
    let mut writer = Writer {
        json: String::with_capacity(yaml.len() * 5 / 4),
        open: Vec::new(),
        is_due: true,
    };
    let start = yaml.strip_prefix("---\n").unwrap_or(yaml);
    for line in start.lines() {
        writer.line(line)?;
    }
    writer.end()
}

/// The JSON that is being written.
struct Writer {
    json: String,
    open: Vec<Open>,
    /// Whether a value must follow.
    is_due: bool,
}

/// A list or an object that may continue.
#[derive(Clone, Copy, PartialEq)]
struct Open {
    /// The column at which its items or keys begin.
    column: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    List,
    Object,
}

impl Writer {
    fn line(&mut self, line: &str) -> Option<()> {
        let text = line.trim_start_matches(' ');
        if text.is_empty() || text.starts_with('#') {
            return Some(());
        }
        let mut rest = text;
        let column = |rest: &str| line.len() - rest.len();
        while let Some(item) = rest.strip_prefix("- ") {
            self.begin(column(rest), Kind::List)?;
            rest = item.trim_start_matches(' ');
        }
        if let Some((key, value)) = split_key(rest) {
            self.begin(column(rest), Kind::Object)?;
            self.scalar(key)?;
            self.json.push(':');
            match value.trim_matches(' ') {
                "" => self.is_due = true,
                value => self.scalar(value)?,
            }
            return Some(());
        }
        // A line with neither a dash nor a key may continue the value before.
        let is_item = rest.len() < text.len();
        is_item.then(|| self.scalar(rest.trim_end_matches(' ')))?
    }

    /// Begins the next item or key of a list or object, which may be new.
    fn begin(&mut self, column: usize, kind: Kind) -> Option<()> {
        let next = Open { column, kind };
        if self.is_due {
            // A value must be deeper than its key, except that a list may begin in the column
            // of its key.
            let may_be_level = |outer: Open| outer.kind == Kind::Object && kind == Kind::List;
            let is_inside = self.open.last().is_none_or(|outer| {
                column > outer.column || column == outer.column && may_be_level(*outer)
            });
            if !is_inside {
                return None;
            }
            self.json.push(kind.brackets().0);
            self.open.push(next);
        } else {
            let is_over = |open: &mut Open| open.column >= column && *open != next;
            while let Some(inner) = self.open.pop_if(is_over) {
                self.json.push(inner.kind.brackets().1);
            }
            if self.open.last() != Some(&next) {
                return None;
            }
            self.json.push(',');
        }
        self.is_due = kind == Kind::List;
        Some(())
    }

    /// Writes a text, a number, a boolean, or an empty list or object.
    fn scalar(&mut self, text: &str) -> Option<()> {
        self.is_due = false;
        let is_number = text == "0"
            || text.starts_with(|first| matches!(first, '1'..='9'))
                && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number || ["true", "false", "[]", "{}"].contains(&text) {
            self.json.push_str(text);
            return Some(());
        }
        let inside = match text.strip_prefix(['"', '\'']) {
            Some(_) if text.len() > 1 && text.ends_with(&text[..1]) => &text[1..text.len() - 1],
            None if is_plain_text(text) => text,
            _ => return None,
        };
        if inside
            .bytes()
            .any(|byte| matches!(byte, b'"' | b'\'' | b'\\'))
        {
            return None;
        }
        self.json.extend(["\"", inside, "\""]);
        Some(())
    }

    /// Returns the JSON if it is complete.
    fn end(mut self) -> Option<String> {
        let open = self.open.iter().rev();
        self.json.extend(open.map(|open| open.kind.brackets().1));
        (!self.is_due).then_some(self.json)
    }
}

impl Kind {
    fn brackets(self) -> (char, char) {
        match self {
            Kind::List => ('[', ']'),
            Kind::Object => ('{', '}'),
        }
    }
}

/// Splits a line into a key and the text after its colon.
fn split_key(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once(':')?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./\"'".contains(&byte);
    let is_key = key.bytes().all(is_word) && (value.is_empty() || value.starts_with(' '));
    is_key.then_some((key, value))
}

/// Whether a text without quotes is a complete plain scalar.
fn is_plain_text(text: &str) -> bool {
    let begins_plain = match text.as_bytes() {
        [b'-', second, ..] => *second != b' ',
        [first, ..] => first.is_ascii_alphanumeric() || b"/._$".contains(first),
        [] => false,
    };
    // Comparing each pair is much faster than searching for a text of two characters.
    let mut pairs = text.as_bytes().windows(2);
    let goes_on = pairs.any(|pair| pair == b": " || pair == b" #") || text.ends_with(':');
    begins_plain && !goes_on && !text.eq_ignore_ascii_case("null")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdi::File;

    /// YAML as tools write it, with lists in the column of their keys and deeper lists.
    const WRITTEN: &str = r#"---
cdiVersion: 0.6.0
kind: vendor.com/class
# One device.
devices:
- name: "0"
  annotations:
    plain: a::b-c=/d,[e]
    'quoted': 'a: b # c'
  containerEdits:
    deviceNodes:
    - path: /dev/gpu0
      type: c
      major: 195
      fileMode: 0660
    hooks:
      - hookName: createContainer
        path: /usr/bin/hook
        args:
        - hook
        - --link
        - libgpu.so.1::/usr/lib/libgpu.so
containerEdits:
  env: []
  mounts:
  - hostPath: /a b
    containerPath: "/a b"

    options: [ro]
"#;

    #[test]
    fn what_tools_write_is_the_same_as_json() {
        let yaml = WRITTEN.replace("[ro]", "\n    -   ro\n    - bind");
        let json = to_json(&yaml).expect("plain");
        assert_eq!(
            json,
            "{\"cdiVersion\":\"0.6.0\",\"kind\":\"vendor.com/class\",\"devices\":[{\"name\":\"0\",\
             \"annotations\":{\"plain\":\"a::b-c=/d,[e]\",\"quoted\":\"a: b # c\"},\
             \"containerEdits\":{\"deviceNodes\":[{\"path\":\"/dev/gpu0\",\"type\":\"c\",\
             \"major\":195,\"fileMode\":\"0660\"}],\"hooks\":[{\"hookName\":\"createContainer\",\
             \"path\":\"/usr/bin/hook\",\"args\":[\"hook\",\"--link\",\
             \"libgpu.so.1::/usr/lib/libgpu.so\"]}]}}],\"containerEdits\":{\"env\":[],\
             \"mounts\":[{\"hostPath\":\"/a b\",\"containerPath\":\"/a b\",\
             \"options\":[\"ro\",\"bind\"]}]}}"
        );
        let read: File = serde_json::from_str(&json).expect("a file");
        assert_eq!(Ok(read), serde_yaml_ng::from_str(&yaml).map_err(drop));
    }

    #[test]
    fn what_is_not_plain_is_left_to_others() {
        for yaml in [
            "",
            "a",
            "a:",
            "- ",
            "- a\nb",
            "a: b\n  c",
            "a: b\n- c",
            "a: b\n  c: d",
            "- a\n  - b",
            "a: b\n c: d",
            " a: b\nc: d",
            "a:\nb: c",
            "a:\n  b",
            "a: ~",
            "a: null",
            "a: Null",
            "a: -",
            "a: - b",
            "a: b: c",
            "a: b:",
            "a: b #c",
            "a: #b",
            "a: 'b",
            "a: 'it''s'",
            "a: \"b\\n\"",
            "a: \"b\" c",
            "a: [b]",
            "a: {b: c}",
            "a: &b c",
            "a: *b",
            "a: !b c",
            "a: |\n  b",
            "a: >\n  b",
            "a: @b",
            "a: `b`",
            "a: %b",
            "a: ,b",
            "? a",
            "a b: c",
            "a:b",
            "a: b\n---\nc: d",
            "--- a: b",
            "...",
            "%YAML 1.2",
            "<<: b",
            "a: b\tc",
            "a: b\r\n",
            "a: ä",
            "a:\n  b: c\n d: e",
        ] {
            assert_eq!(to_json(yaml), None, "{yaml:?}");
        }
    }

    /// About 20,000 texts with a few wrong characters: if one is taken as plain and is a file,
    /// a parser of all of YAML must give the same file.
    #[test]
    fn what_is_taken_is_what_yaml_says() {
        const LETTERS: &[u8] = b"  --::#'\"[]{}\n\n~&*!|>%?,\\0a1/.=";
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut below = |end: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % end as u64).expect("a number below")
        };
        let mut taken = 0;
        for _ in 0..20_000 {
            let mut yaml = WRITTEN.replace("[ro]", "\n    - ro").into_bytes();
            for _ in 0..=below(3) {
                let place = below(yaml.len());
                match below(4) {
                    0 => drop(yaml.remove(place)),
                    1 => yaml[place] = LETTERS[below(LETTERS.len())],
                    _ => yaml.insert(place, LETTERS[below(LETTERS.len())]),
                }
            }
            let yaml = String::from_utf8(yaml).expect("ASCII");
            let json = to_json(&yaml);
            let read = json.and_then(|json| serde_json::from_str::<File>(&json).ok());
            if let Some(read) = read {
                taken += 1;
                let all = serde_yaml_ng::from_str(&yaml);
                assert_eq!(Some(read), all.ok(), "{yaml}");
            }
        }
        assert!(taken > 1000, "{taken}");
    }
}
