//! Mount options.
