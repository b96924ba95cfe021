//! Stand-in until the command line lands.
pub(crate) fn debug_enabled() -> bool {
    false
}
pub(crate) fn debug(_message: &str) {}
pub(crate) fn warn(_message: &str) {}
pub(crate) fn error(_message: &str) {}
