//! Turns limits of huge pages into writes. The files of v1 and v2 differ only in the end of
//! their names.

use teu_cgroups_types::HugepageLimit;

use crate::directory::{Missing, Steps, Write};
use crate::error::{Error, Result};

/// Returns the writes. The names of the files end in `file`.
pub(crate) fn steps(limits: &[HugepageLimit], file: &str) -> Result<Steps> {
    let mut steps = Steps::default();
    let field = "hugepageLimits";
    for HugepageLimit { page_size, limit } in limits {
        if !is_page_size(page_size) {
            let reason = format!("page size {page_size:?} is not of the form \"2MB\"");
            return Err(Error::refused(field, reason));
        }
        let prefix = format!("hugetlb.{page_size}");
        steps.write(Write::new(field, &format!("{prefix}.{file}"), limit));
        // Since kernel 5.7, reservations have a limit of their own.
        let reserved = Write::new(field, &format!("{prefix}.rsvd.{file}"), limit);
        steps.write(reserved.if_missing(Missing::Skip));
    }
    Ok(steps)
}

/// Returns whether a page size has the form `^[1-9][0-9]*[KMG]B$` (runtime-spec,
/// config-linux.md). Other text is refused, because the page size becomes part of a file
/// name.
fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"]
        .iter()
        .find_map(|unit| text.strip_suffix(unit));
    number.is_some_and(|number| {
        number.bytes().all(|byte| byte.is_ascii_digit())
            && !number.is_empty()
            && !number.starts_with('0')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let limits = [HugepageLimit {
            page_size: "2MB".into(),
            limit: 4096,
        }];
        for file in ["limit_in_bytes", "max"] {
            assert_eq!(
                steps(&limits, file).unwrap().lines(),
                [
                    format!("hugetlb.2MB.{file}=4096"),
                    format!("hugetlb.2MB.rsvd.{file}=4096")
                ]
            );
        }
        for page_size in ["2M", "02MB", "../2MB", "MB", "", "2/MB"] {
            let limits = [HugepageLimit {
                page_size: page_size.into(),
                limit: 0,
            }];
            let error = steps(&limits, "max").unwrap_err().to_string();
            assert!(error.starts_with("hugepageLimits: page size"), "{error}");
        }
    }
}
