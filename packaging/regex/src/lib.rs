//! Replaces the crate regex by regex-lite, which is by the same authors. Only oci-spec uses
//! it, for one regular expression that matches lists of CPUs. regex has tables of all of
//! Unicode, to which every start of a static-pie program adds its own address: this costs
//! 300 KiB of memory.

pub use regex_lite::Regex;
