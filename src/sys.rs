//! System and C library calls that nix does not wrap: the only unsafe code of
//! this package.
#![expect(unsafe_code, reason = "raw calls live here and nowhere else")]

/// A moment in the local time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalTime {
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: u8,
    /// 1 to 31.
    pub(crate) day: u8,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    /// 0 to 60: 60 is a leap second.
    pub(crate) second: u8,
    /// Seconds east of Greenwich.
    pub(crate) offset: i64,
}

/// Converts seconds since the epoch to the time zone of `$TZ`, else of
/// `/etc/localtime`, else UTC (localtime(3)). `None` for a year beyond what the
/// C library can express.
pub(crate) fn local_time(seconds: i64) -> Option<LocalTime> {
    let mut parts = std::mem::MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are to live values of the right type, and
    // localtime_r keeps neither. It may read the environment, which is sound
    // because nothing in this program changes it (clippy.toml forbids set_var).
    let filled = unsafe { libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) };
    if filled.is_null() {
        return None;
    }
    // SAFETY: localtime_r returned the pointer it was given, so it has filled
    // every field of the structure.
    let parts = unsafe { parts.assume_init() };
    Some(LocalTime {
        year: i64::from(parts.tm_year) + 1900,
        month: u8::try_from(parts.tm_mon + 1).ok()?,
        day: u8::try_from(parts.tm_mday).ok()?,
        hour: u8::try_from(parts.tm_hour).ok()?,
        minute: u8::try_from(parts.tm_min).ok()?,
        second: u8::try_from(parts.tm_sec).ok()?,
        offset: parts.tm_gmtoff,
    })
}
