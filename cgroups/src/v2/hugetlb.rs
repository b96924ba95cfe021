//! Turns limits of huge pages into writes for the v2 controller hugetlb.

use teu_cgroups_types::HugepageLimit;

use crate::error::Result;
use crate::file::Steps;
use crate::v1::hugetlb::steps_for;

pub(crate) fn steps(limits: &[HugepageLimit]) -> Result<Steps> {
    steps_for(limits, "max")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let limits = [HugepageLimit {
            page_size: "1GB".into(),
            limit: 0,
        }];
        assert_eq!(
            steps(&limits).unwrap().lines(),
            ["hugetlb.1GB.max=0", "hugetlb.1GB.rsvd.max=0"]
        );
    }
}
