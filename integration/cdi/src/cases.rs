//! The files that are compared. Each has one thing that may be wrong, by which a difference is
//! listed.

/// A file, and what is special about it.
pub struct Case {
    pub what: String,
    pub text: String,
}

const VERSIONS: [&str; 10] = [
    "0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0",
];

/// Returns all cases, the same ones each time.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in VERSIONS {
        for edits in EDITS {
            cases.push(file(edits, version, &device("dev0", edits)));
            let of_file = format!(
                "{}\ncontainerEdits: {{{edits}}}",
                device("dev0", "env: [A=b]")
            );
            cases.push(file(edits, version, &of_file));
        }
        for rest in FIELDS {
            cases.push(file(rest, version, rest));
        }
        for (kind, name) in [("v.com/c", "0"), ("v.com/c.d", "a"), ("v/c", "a.b")] {
            cases.push(named(kind, name, version));
        }
    }
    for version in OTHER_VERSIONS {
        cases.push(file(version, version, &device("dev0", "env: [A=b]")));
    }
    for name in names() {
        cases.push(named(&format!("{name}/c"), "a", "1.1.0"));
        cases.push(named(&format!("v.com/{name}"), "a", "1.1.0"));
        cases.push(named("v.com/c", &name, "1.1.0"));
    }
    for kind in ["", "v", "/", "v/c/d", "v//c", " v/c", "v/c "] {
        cases.push(named(kind, "a", "1.1.0"));
    }
    for text in TEXTS {
        let (what, text) = ((*text).to_owned(), (*text).to_owned());
        cases.push(Case { what, text });
    }
    cases
}

fn device(name: &str, edits: &str) -> String {
    format!("devices: [{{name: {name:?}, containerEdits: {{{edits}}}}}]")
}

fn file(what: &str, version: &str, rest: &str) -> Case {
    Case {
        what: what.to_owned(),
        text: format!("cdiVersion: {version:?}\nkind: vendor.com/class\n{rest}\n"),
    }
}

fn named(kind: &str, name: &str, version: &str) -> Case {
    let devices = device(name, "env: [A=b]");
    Case {
        what: format!("{kind}={name}"),
        text: format!("cdiVersion: {version}\nkind: {kind:?}\n{devices}\n"),
    }
}

/// Returns every text of up to three of some signs.
fn names() -> Vec<String> {
    let signs = ["", "a", "Z", "0", "-", "_", ".", ":", "/", "=", " ", "ä"];
    let mut names = vec![String::new()];
    for _ in 0..3 {
        let longer = names
            .iter()
            .flat_map(|name| signs.map(|sign| format!("{name}{sign}")));
        names = longer.collect();
        names.sort();
        names.dedup();
    }
    names
}

const OTHER_VERSIONS: &[&str] = &[
    "",
    "0.9.0",
    "1.2.0",
    "2.0.0",
    "1.1",
    "1",
    "v0.6.0",
    "v1.1.0",
    "V1.1.0",
    "vv1.0.0",
    "1.0.0-rc.1",
    "1.0.0+a",
    " 1.0.0",
    "01.0.0",
    "one",
];

/// All that comes after version and kind.
const FIELDS: &[&str] = &[
    "devices: []",
    "devices:",
    "containerEdits: {env: [A=b]}",
    "devices: {}",
    "devices: [{name: a}]",
    "devices: [{name: a, containerEdits: }]",
    "devices: [{containerEdits: {env: [A=b]}}]",
    "devices: [{name: a, containerEdits: {env: [A=b]}}, {name: a, containerEdits: {env: [A=b]}}]",
    "devices: [{name: a, containerEdits: {env: [A=b]}}, {name: b, containerEdits: {env: [B=c]}}]",
    "devices: [{name: a, containerEdits: {env: [A=b]}, nameShort: [b]}]",
    "devices: [{name: a, containerEdits: {env: [A=b]}, annotations: {x: y}}]",
    "devices: [{name: a, containerEdits: {env: [A=b]}, annotations: {'x y': z}}]",
    "devices: [{name: a, containerEdits: {env: [A=b]}}]\nannotations: {}",
    "devices: [{name: a, containerEdits: {env: [A=b]}}]\nannotations: {vendor.com/x: y}",
    "devices: [{name: a, containerEdits: {env: [A=b]}}]\nannotations: {x: ''}",
    "devices: [{name: a, containerEdits: {env: [A=b]}}]\nannotations: {'': x}",
    "devices: [{name: a, containerEdits: {env: [A=b]}}]\nannotations: {a/b/c: x}",
    "devices: [{name: a, containerEdits: {env: [A=b]}}]\nannotations: {x: [y]}",
    "devices: [{name: a, containerEdits: {env: [A=b]}}]\nannotations: {x: y, x: z}",
    "devices: [{name: a, containerEdits: {env: [A=b]}}]\nannotations:",
    "devices: [{name: a, containerEdits: {env: [A=b]}}]\ncontainerEdits:",
    "devices: [{name: a, containerEdits: {env: [A=b]}}]\ncontainerRuntime: [x]",
    "devices: [{name: a, containerEdits: {env: [A=b]}}]\nkind: v/c",
    "devices: [{name: a, containerEdits: {env: [A=b]}}]\nKIND: v/c",
    "devices: [{NAME: a, containerEdits: {env: [A=b]}}]",
];

/// Edits, of a device or of all.
const EDITS: &[&str] = &[
    "",
    "env: []",
    "env: [A=b, C=]",
    "env: ['B=c=d']",
    "env: ['A= ']",
    "env: [A]",
    "env: ['']",
    "env: [=b]",
    "env: A=b",
    "env: [1]",
    "ENV: [A=b]",
    "deviceNodes: [{path: /dev/null, fileMode: 438}]",
    "deviceNodes: [{path: /dev/null}]",
    "deviceNodes: [{path: /dev/x, hostPath: /dev/zero, fileMode: 438}]",
    "deviceNodes: [{path: /dev/x, hostPath: '', type: c, major: 7, minor: 9, fileMode: 438}]",
    "deviceNodes: [{path: /dev/null, hostPath: '', fileMode: 438}]",
    "deviceNodes: [{path: /dev/x, fileMode: 438}]",
    "deviceNodes: [{path: x, fileMode: 438}]",
    "deviceNodes: [{path: '', fileMode: 438}]",
    "deviceNodes: [{hostPath: /dev/null}]",
    "deviceNodes: [{path: /dev/x, type: b, major: 7, minor: 200, fileMode: 438}]",
    "deviceNodes: [{path: /dev/x, type: c, major: 7, minor: 200}]",
    "deviceNodes: [{path: /dev/x, type: c, major: 7}]",
    "deviceNodes: [{path: /dev/x, type: c, major: 0, minor: 0}]",
    "deviceNodes: [{path: /dev/x, type: u, major: 7, minor: 200}]",
    "deviceNodes: [{path: /dev/x, type: p}]",
    "deviceNodes: [{path: /dev/x, type: p, major: 7, minor: 200}]",
    "deviceNodes: [{path: /dev/x, type: a}]",
    "deviceNodes: [{path: /dev/x, type: char}]",
    "deviceNodes: [{path: /dev/null, type: '', fileMode: 438}]",
    "deviceNodes: [{path: /dev/null, type: c, fileMode: 438}]",
    "deviceNodes: [{path: /dev/null, type: u, fileMode: 438}]",
    "deviceNodes: [{path: /dev/null, type: b, fileMode: 438}]",
    "deviceNodes: [{path: /dev/null, type: c, major: 1, minor: 3, fileMode: 438}]",
    "deviceNodes: [{path: /dev/null, type: c, major: 195, minor: 0, fileMode: 438}]",
    "deviceNodes: [{path: /dev/null, major: 195, minor: 0, fileMode: 438}]",
    "deviceNodes: [{path: /dev/null, type: c, major: 0, minor: 0, fileMode: 438}]",
    "deviceNodes: [{path: /dev/null, minor: 5, fileMode: 438}]",
    "deviceNodes: [{path: /dev/x, type: c, major: -1, minor: 0}]",
    "deviceNodes: [{path: /dev/x, type: c, major: 1, minor: -1}]",
    "deviceNodes: [{path: /dev/null, fileMode: 0}]",
    "deviceNodes: [{path: /dev/null, fileMode: 0660}]",
    "deviceNodes: [{path: /dev/null, fileMode: 0o660}]",
    "deviceNodes: [{path: /dev/null, fileMode: rw}]",
    "deviceNodes: [{path: /dev/null, fileMode: -1}]",
    "deviceNodes: [{path: /dev/null, fileMode: 4294967296}]",
    "deviceNodes: [{path: /dev/null, fileMode: 438, permissions: ''}]",
    "deviceNodes: [{path: /dev/null, fileMode: 438, permissions: r}]",
    "deviceNodes: [{path: /dev/null, fileMode: 438, permissions: mrw}]",
    "deviceNodes: [{path: /dev/null, fileMode: 438, permissions: rr}]",
    "deviceNodes: [{path: /dev/null, fileMode: 438, permissions: none}]",
    "deviceNodes: [{path: /dev/null, fileMode: 438, permissions: no}]",
    "deviceNodes: [{path: /dev/null, fileMode: 438, permissions: rwx}]",
    "deviceNodes: [{path: /dev/null, fileMode: 438, permissions: RW}]",
    "deviceNodes: [{path: /dev/null, fileMode: 438, uid: 3, gid: 4}]",
    "deviceNodes: [{path: /dev/null, fileMode: 438, uid: 0, gid: 0}]",
    "deviceNodes: [{path: /dev/null, fileMode: 438, uid: -1}]",
    "deviceNodes: [{path: /dev/null, fileMode: 438, gid: 4294967296}]",
    "deviceNodes: [{path: /dev/null, fileMode: 438, name: x}]",
    "deviceNodes: [{path: /dev/null, fileMode: 438}, {path: /dev/zero, fileMode: 438}]",
    "deviceNodes: [{path: /etc/passwd, fileMode: 438}]",
    "deviceNodes: []",
    "netDevices: [{hostInterfaceName: a, name: b}]",
    "netDevices: [{hostInterfaceName: a, name: x}, {hostInterfaceName: b, name: y}]",
    "netDevices: [{hostInterfaceName: a, name: x}, {hostInterfaceName: a, name: y}]",
    "netDevices: [{hostInterfaceName: a, name: x}, {hostInterfaceName: b, name: x}]",
    "netDevices: [{hostInterfaceName: a}]",
    "netDevices: [{name: a}]",
    "netDevices: [{hostInterfaceName: '', name: a}]",
    "netDevices: []",
    "mounts: [{hostPath: /a, containerPath: /b}]",
    "mounts: [{hostPath: /a, containerPath: /b, options: [ro, bind]}]",
    "mounts: [{hostPath: /a, containerPath: /b, options: []}]",
    "mounts: [{hostPath: /a, containerPath: /b, options: ro}]",
    "mounts: [{hostPath: /a, containerPath: /b, type: bind}]",
    "mounts: [{hostPath: /a, containerPath: /b, type: ''}]",
    "mounts: [{hostPath: tmpfs, containerPath: /b, type: tmpfs}]",
    "mounts: [{hostPath: /a, containerPath: b}]",
    "mounts: [{hostPath: /a}]",
    "mounts: [{containerPath: /a}]",
    "mounts: [{hostPath: '', containerPath: /b}]",
    "mounts: [{hostPath: /a, containerPath: ''}]",
    "mounts: [{hostPath: /a, containerPath: /b, readonly: true}]",
    "mounts: [{hostPath: /a, containerPath: /b/c}, {hostPath: /a, containerPath: /b}]",
    "hooks: [{hookName: prestart, path: /h}]",
    "hooks: [{hookName: createRuntime, path: /h, args: [h, ''], env: [A=b], timeout: 5}]",
    "hooks: [{hookName: createContainer, path: /h}]",
    "hooks: [{hookName: startContainer, path: /h, args: []}]",
    "hooks: [{hookName: poststart, path: /h, env: []}]",
    "hooks: [{hookName: poststop, path: /h}, {hookName: poststop, path: /i}]",
    "hooks: [{hookName: later, path: /h}]",
    "hooks: [{hookName: CreateRuntime, path: /h}]",
    "hooks: [{hookName: '', path: /h}]",
    "hooks: [{path: /h}]",
    "hooks: [{hookName: poststop}]",
    "hooks: [{hookName: poststop, path: ''}]",
    "hooks: [{hookName: poststop, path: h}]",
    "hooks: [{hookName: poststop, path: /h, env: [A]}]",
    "hooks: [{hookName: poststop, path: /h, env: [=b]}]",
    "hooks: [{hookName: poststop, path: /h, timeout: 0}]",
    "hooks: [{hookName: poststop, path: /h, timeout: -1}]",
    "hooks: [{hookName: poststop, path: /h, timeout: 4294967296}]",
    "hooks: [{hookName: poststop, path: /h, timeout: '5'}]",
    "hooks: [{hookName: poststop, path: /h, timeout: 1.5}]",
    "intelRdt: {}",
    "intelRdt: {closID: a}",
    "intelRdt: {closID: ''}",
    "intelRdt: {closID: /}",
    "intelRdt: {closID: .}",
    "intelRdt: {closID: ..}",
    "intelRdt: {closID: a/b}",
    "intelRdt: {closID: \"a\\nb\"}",
    "intelRdt: {l3CacheSchema: 'L3:0=f', memBwSchema: 'MB:0=10'}",
    "intelRdt: {schemata: ['L3:0=f']}",
    "intelRdt: {schemata: []}",
    "intelRdt: {schema: ['L3:0=f']}",
    "intelRdt: {enableMonitoring: true}",
    "intelRdt: {enableMonitoring: false}",
    "intelRdt: {enableMonitoring: yes}",
    "intelRdt: {enableCMT: true}",
    "intelRdt: {enableMBM: true}",
    "additionalGids: [1, 7]",
    "additionalGids: [0, 5]",
    "additionalGids: [5, 5]",
    "additionalGids: []",
    "additionalGids: [-1]",
    "additionalGids: [4294967295]",
    "additionalGids: [4294967296]",
    "additionalGids: ['5']",
    "additionalGids: {}",
    "additionalGIDs: [5]",
    "env: [A=b], mounts: , intelRdt: ~, deviceNodes: ",
    "env: [A=b], env: [A=c]",
    "envs: [A=b]",
];

/// Whole files.
const TEXTS: &[&str] = &[
    "",
    " \n\n",
    "# a\n",
    "{}",
    "- a",
    "{",
    "null",
    "kind: v.com/c\ndevices: [{name: a, containerEdits: {env: [A=b]}}]\n",
    "cdiVersion: 1.1.0\ndevices: [{name: a, containerEdits: {env: [A=b]}}]\n",
    "cdiVersion: 1.1.0\nkind: v.com/c\ndevices: [{name: a, containerEdits: {env: [A=b]}}]\n---\na: b\n",
    "cdiVersion: 1.1.0\nkind: v.com/c\ndevices: [{name: 0, containerEdits: {env: [A=b]}}]\n",
    "{\"cdiVersion\": \"1.1.0\", \"kind\": \"v.com\\/c\",\n\t\"devices\": [{\"name\": \"a\", \"containerEdits\": {\"env\": [\"A=b\"]}}]}\n",
    "cdiVersion: 1.1.0\nkind: v.com/c\ndevices:\n- name: a\n  containerEdits:\n    env:\n    - A=b # c\n",
    "cdiVersion: 1.1.0\nkind: v.com/c\ndevices:\n- &a\n  name: a\n  containerEdits: &e {env: [A=b]}\n- name: b\n  containerEdits: *e\n",
];
