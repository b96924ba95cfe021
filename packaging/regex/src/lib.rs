//! oci-spec has one regular expression, for lists of CPUs. The crate regex brings
//! tables of all Unicode for it, to which every start of a static-pie program adds
//! its own address: 300 KiB of memory. regex-lite is by the same authors.

pub use regex_lite::Regex;
