//! teu's root, the directory of all state: `--root`, or the default for the user. Not
//! for its content: see `state_dir.rs`.

use anyhow::{Context, Result, bail};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use teu_namespaces::id_maps;
use teu_plan::mounts::clean;

/// The default for root of the host.
const DEFAULT: &str = "/run/teu";

/// The directory of all state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    /// Absolute, without "." and "..".
    pub(crate) path: PathBuf,
    /// Whether `--root` was given. Only then `list` fails if the directory does not
    /// exist.
    pub(crate) given: bool,
}

impl Root {
    /// Chooses the directory of `--root`, else `$XDG_RUNTIME_DIR/teu` for a user
    /// without privileges, else `/run/teu`. Makes the directory below
    /// `$XDG_RUNTIME_DIR`, with the sticky bit that tells cleaners to keep it (XDG Base
    /// Directory Specification).
    ///
    /// # Errors
    /// `--root` is `/` in any spelling, the directory below `$XDG_RUNTIME_DIR` cannot be
    /// made, or the id map of this process cannot be read.
    pub(crate) fn choose(given: Option<&OsStr>) -> Result<Root> {
        if let Some(path) = given {
            return Root::given(Path::new(path));
        }
        match env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) if honours_runtime_dir()? => {
                let path = Path::new(&dir).join("teu");
                make_sticky(&path)
                    .with_context(|| format!("make {path:?} below $XDG_RUNTIME_DIR"))?;
                Ok(Root { path, given: false })
            }
            _ => Ok(Root {
                path: DEFAULT.into(),
                given: false,
            }),
        }
    }

    fn given(path: &Path) -> Result<Root> {
        let path = if path.is_absolute() {
            clean(path)
        } else {
            let current = env::current_dir().context("find the current directory for --root")?;
            clean(&current.join(path))
        };
        if path == Path::new("/") {
            bail!("Option --root argument should not be set to /");
        }
        Ok(Root { path, given: true })
    }
}

/// Returns whether `$XDG_RUNTIME_DIR` belongs to this user. Root of the host may have
/// inherited it from a user (`su`, `sudo -E`), and so always uses `/run`. The same
/// holds for root of a user namespace who logged in there as root.
fn honours_runtime_dir() -> Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(true);
    }
    let is_in_user_namespace = !id_maps::is_initial(Path::new("/proc/self/uid_map"))?;
    Ok(is_in_user_namespace && env::var_os("USER").is_none_or(|user| user != "root"))
}

fn make_sticky(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o1700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_root_becomes_absolute_and_clean() {
        let here = env::current_dir().unwrap();
        for (given, path) in [
            ("/a/b", PathBuf::from("/a/b")),
            ("/a/../b/./c/", PathBuf::from("/b/c")),
            ("x", here.join("x")),
            ("", here.clone()),
        ] {
            let root = Root::choose(Some(OsStr::new(given))).unwrap();
            assert_eq!(root, Root { path, given: true }, "{given}");
        }
    }

    #[test]
    fn the_root_of_everything_is_refused() {
        for given in ["/", "//", "/a/..", "/../.."] {
            let error = Root::choose(Some(OsStr::new(given))).unwrap_err();
            assert_eq!(
                error.to_string(),
                "Option --root argument should not be set to /"
            );
        }
    }
}
