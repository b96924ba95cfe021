//! Differences that are known, and which of the two is right by the specification's text.

/// What differs.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    OnlyTeuAccepts,
    OnlyTeuRefuses,
    /// Both accept the file, but the devices bring different things.
    Edits,
}

/// Who is right by the specification's text.
#[derive(Debug)]
pub enum Right {
    Teu,
    /// The text leaves it open.
    Either,
}

/// A difference.
pub struct Difference {
    pub kind: Kind,
    pub right: Right,
    pub why: &'static str,
    /// How many files it is about: those of versions that have what they use.
    pub files: usize,
    /// What is special about the files.
    what: &'static [&'static str],
}

impl Difference {
    /// Returns whether this is about files of which this is special.
    pub fn is_about(&self, what: &str) -> bool {
        self.what.contains(&what)
    }
}

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        kind: Kind::OnlyTeuAccepts,
        right: Right::Teu,
        why: "the text itself writes additionalGIDs in one place and additionalGids in another",
        files: 8,
        what: &["additionalGIDs: [5]"],
    },
    Difference {
        kind: Kind::OnlyTeuAccepts,
        right: Right::Either,
        why: "the text does not say whether the case of a name matters; to Go's library it does not",
        files: 24,
        what: &[
            "ENV: [A=b]",
            "devices: [{NAME: a, containerEdits: {env: [A=b]}}]",
        ],
    },
    Difference {
        kind: Kind::OnlyTeuAccepts,
        right: Right::Either,
        why: "the text calls fileMode a number and knows JSON only; Go's library reads YAML, where 0660 is octal",
        files: 16,
        what: &["deviceNodes: [{path: /dev/null, fileMode: 0660}]"],
    },
    Difference {
        kind: Kind::OnlyTeuAccepts,
        right: Right::Either,
        why: "a time limit must be above zero: teu refuses the device and not the file, as for 0, which both read",
        files: 8,
        what: &["hooks: [{hookName: poststop, path: /h, timeout: -1}]"],
    },
    Difference {
        kind: Kind::OnlyTeuAccepts,
        right: Right::Teu,
        why: "a time limit is an int, with no largest value",
        files: 8,
        what: &["hooks: [{hookName: poststop, path: /h, timeout: 4294967296}]"],
    },
    Difference {
        kind: Kind::OnlyTeuAccepts,
        right: Right::Teu,
        why: "the text has no rule for the names of annotations; those of Kubernetes are for objects of Kubernetes",
        files: 15,
        what: &[
            "devices: [{name: a, containerEdits: {env: [A=b]}, annotations: {'x y': z}}]",
            "devices: [{name: a, containerEdits: {env: [A=b]}}]\nannotations: {'': x}",
            "devices: [{name: a, containerEdits: {env: [A=b]}}]\nannotations: {a/b/c: x}",
        ],
    },
    Difference {
        kind: Kind::OnlyTeuAccepts,
        right: Right::Either,
        why: "the text does not say which names there are; to Go's library \"/\" is the root of them all",
        files: 8,
        what: &["intelRdt: {closID: /}"],
    },
    Difference {
        kind: Kind::OnlyTeuAccepts,
        right: Right::Teu,
        why: "a field with Go's zero value is one that is not used, so it needs no version",
        files: 12,
        what: &[
            "intelRdt: {schemata: []}",
            "intelRdt: {enableMonitoring: false}",
        ],
    },
    Difference {
        kind: Kind::OnlyTeuRefuses,
        right: Right::Either,
        why: "the text says int64, but no device has a negative number, and no runtime can make it",
        files: 32,
        what: &[
            "deviceNodes: [{path: /dev/x, type: c, major: -1, minor: 0}]",
            "deviceNodes: [{path: /dev/x, type: c, major: 1, minor: -1}]",
        ],
    },
    Difference {
        kind: Kind::OnlyTeuRefuses,
        right: Right::Either,
        why: "the text does not say what counts if a name is there twice; Go's library refuses it",
        files: 5,
        what: &["devices: [{name: a, containerEdits: {env: [A=b]}}]\nannotations: {x: y, x: z}"],
    },
    Difference {
        kind: Kind::OnlyTeuRefuses,
        right: Right::Either,
        why: "version 1.1.0 dropped the fields, and the text does not say what they are in older files; Go's library refuses them in all",
        files: 12,
        what: &["intelRdt: {enableCMT: true}", "intelRdt: {enableMBM: true}"],
    },
    Difference {
        kind: Kind::OnlyTeuRefuses,
        right: Right::Teu,
        why: "this is no semantic version; one v before it is a habit of Go",
        files: 1,
        what: &["vv1.0.0"],
    },
    Difference {
        kind: Kind::Edits,
        right: Right::Either,
        why: "the text does not say which mode a node without fileMode has; teu and Go's library take that of the host's",
        files: 16,
        what: &["deviceNodes: [{path: /dev/null}]"],
    },
    Difference {
        kind: Kind::Edits,
        right: Right::Teu,
        why: "an empty hostPath is one that is not specified, so path is used: zero values of Go are absent",
        files: 16,
        what: &["deviceNodes: [{path: /dev/null, hostPath: '', fileMode: 438}]"],
    },
    Difference {
        kind: Kind::Edits,
        right: Right::Teu,
        why: "a major number of 0 is one that is not given: zero values of Go are absent",
        files: 32,
        what: &[
            "deviceNodes: [{path: /dev/x, type: c, major: 0, minor: 0}]",
            "deviceNodes: [{path: /dev/null, type: c, major: 0, minor: 0, fileMode: 438}]",
        ],
    },
    Difference {
        kind: Kind::Edits,
        right: Right::Teu,
        why: "u is a character device to the runtime specification, too",
        files: 16,
        what: &["deviceNodes: [{path: /dev/null, type: u, fileMode: 438}]"],
    },
    Difference {
        kind: Kind::Edits,
        right: Right::Either,
        why: "a FIFO has no number, so nothing becomes of it",
        files: 16,
        what: &["deviceNodes: [{path: /dev/x, type: p, major: 7, minor: 200}]"],
    },
    Difference {
        kind: Kind::Edits,
        right: Right::Either,
        why: "the text does not say what counts if the host's node has another number; teu does not give a device under the name of another",
        files: 32,
        what: &[
            "deviceNodes: [{path: /dev/null, type: c, major: 195, minor: 0, fileMode: 438}]",
            "deviceNodes: [{path: /dev/null, major: 195, minor: 0, fileMode: 438}]",
        ],
    },
    Difference {
        kind: Kind::Edits,
        right: Right::Either,
        why: "no rule allows the same as one with empty permissions",
        files: 16,
        what: &["deviceNodes: [{path: /dev/null, fileMode: 438, permissions: none}]"],
    },
];
