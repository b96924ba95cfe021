//! Releases memory that an idle server does not need: most of the program's code runs only
//! once, at the start.

use std::fs;

use anyhow::{Context, Result};

use crate::sys;

/// Drops the pages of the program that are unchanged from its file. The kernel maps a page from
/// the page cache again when the program needs it. More than 1 MiB of the pages is not needed
/// again. If the kernel does not report the mappings (proc_pid_smaps(5)), all pages stay.
pub(crate) fn drop_pages() {
    if let Err(err) = try_to_drop_pages() {
        log::debug!("{}", teu_errno::chain(&err));
    }
}

fn try_to_drop_pages() -> Result<()> {
    let mappings = fs::read_to_string("/proc/self/smaps").context("read the mappings")?;
    let mut file = None;
    for line in mappings.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            [range, flags, _offset, _device, inode, ..] if range.contains('-') => {
                let is_file = inode != "0" && !flags.contains('w');
                file = range.split_once('-').filter(|_| is_file);
            }
            // The mapping was written to before it was write-protected.
            ["Anonymous:", size, "kB"] if size != "0" => file = None,
            // All pages of this mapping equal the file: no page that was written to is in memory
            // (the line above) or in swap.
            ["Swap:", "0", "kB"] => {
                if let Some((start, end)) = file.take() {
                    let address = |word| usize::from_str_radix(word, 16).context("an address");
                    let (start, end) = (address(start)?, address(end)?);
                    sys::drop_pages(start, end.saturating_sub(start)).context("madvise")?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}
