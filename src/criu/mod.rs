//! The conversation of `checkpoint` and `restore` with CRIU, the program that stores
//! processes in files and restores them (criu(8)).
//!
//! Each command starts one `criu swrk 3`. Requests, notifications and responses are
//! protocol buffers that go over a SOCK_SEQPACKET pair.
//!
//! Not for deciding which parts of a container are external (`plan/src/external.rs`), nor
//! for handling CRIU's notifications (the commands).

pub(crate) mod external;
pub(crate) mod images;
pub(crate) mod logfile;
pub(crate) mod process;
pub(crate) mod rpc;

use std::collections::BTreeMap;
use std::path::Path;

/// The annotation that names a configuration file for CRIU; an empty value means no
/// file.
const ANNOTATION: &str = "org.criu.config";

/// Files in which an administrator configures CRIU for teu: teu's own file, else runc's.
/// CRIU prefers the settings in such a file to the options of teu's command line.
const CONFIGURATION: [&str; 2] = ["/etc/criu/teu.conf", "/etc/criu/runc.conf"];

/// The configuration file that CRIU is to read, if any. CRIU ignores a file that does not
/// exist.
pub(crate) fn configuration(annotations: &BTreeMap<String, String>) -> Option<String> {
    match annotations.get(ANNOTATION) {
        Some(path) => Some(path.clone()).filter(|path| !path.is_empty()),
        None => {
            let [own, runc] = CONFIGURATION;
            let file = if Path::new(own).exists() { own } else { runc };
            Some(file.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_overrules() {
        let with = |value: &str| BTreeMap::from([(ANNOTATION.to_owned(), value.to_owned())]);
        assert_eq!(configuration(&with("/a")).as_deref(), Some("/a"));
        assert_eq!(configuration(&with("")), None);
        let default = configuration(&BTreeMap::new()).expect("a default");
        assert!(CONFIGURATION.contains(&default.as_str()), "{default}");
    }
}
