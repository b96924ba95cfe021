//! The session keyring of the container (keyrings(7)).

use std::ffi::CString;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::process::getuid;

use crate::{errno, sys};

/// Gives the process a session keyring of its own, which `exec` finds by its name, and
/// lets the container's user search it. If the kernel has no keyrings, this logs a
/// warning only, because keyrings protect little that files do not (keyrings(7)).
pub(crate) fn join_new(container_id: &str, in_user_namespace: bool) -> Result<()> {
    /// `KEY_OTH_SEARCH` of `keyutils.h`. In a user namespace, the keyring's owner is
    /// another user.
    const OTHERS_MAY_SEARCH: u32 = 0x8;
    /// `KEY_USR_SEARCH` of `keyutils.h`.
    const USER_MAY_SEARCH: u32 = 0x8_0000;
    let Some(key) = join_named(container_id)? else {
        return Ok(());
    };
    let search = if in_user_namespace {
        OTHERS_MAY_SEARCH
    } else {
        USER_MAY_SEARCH
    };
    describe(key)
        .and_then(|description| permissions(&description))
        .and_then(|now| Ok(sys::set_key_permissions(key, now | search)?))
        .context("unable to mod keyring permissions")
}

/// Joins the session keyring that the container's first process made.
pub(crate) fn join_again(container_id: &str) -> Result<()> {
    join_named(container_id).map(drop)
}

/// Joins the session keyring with the container's name. `None` if the kernel has no
/// keyrings.
fn join_named(container_id: &str) -> Result<Option<sys::Key>> {
    let name = CString::new(format!("_ses.{container_id}")).context("session keyring name")?;
    match sys::join_session_keyring(&name) {
        Ok(key) => {
            // The kernel joins a keyring of this name that another user made, too. That user
            // can read its keys.
            if field(&describe(key)?, 1)? != getuid().as_raw().to_string() {
                bail!("the session keyring _ses.{container_id} is another user's");
            }
            Ok(Some(key))
        }
        Err(err) if Errno::from_io_error(&err) == Some(Errno::NOSYS) => {
            log::warn!("join session keyring: {}", errno::text(err));
            Ok(None)
        }
        Err(err) => Err(err).context("unable to join session keyring"),
    }
}

fn describe(key: sys::Key) -> Result<String> {
    let description = sys::describe_key(key).context("describe the session keyring")?;
    Ok(String::from_utf8_lossy(&description).into_owned())
}

/// Returns the permissions in a key's description (keyctl_describe(3)): its fourth field, in
/// hexadecimal.
fn permissions(description: &str) -> Result<u32> {
    let field = field(description, 3)?;
    u32::from_str_radix(field, 16).with_context(|| format!("key permissions {field:?}"))
}

fn field(description: &str, index: usize) -> Result<&str> {
    let field = description.split(';').nth(index);
    field.with_context(|| format!("key description {description:?} has no field {index}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::fs;

    #[test]
    fn a_session_keyring_of_its_own() {
        testing::in_child(|| {
            join_new("a.test", false).expect("join");
            let keys = fs::read_to_string("/proc/keys").expect("keys");
            let line = keys
                .lines()
                .find(|line| line.contains(" _ses.a.test"))
                .expect("keyring");
            // The fifth field has the permissions, which include view, read and search
            // for the user.
            let permissions = line.split_whitespace().nth(4).expect("permissions");
            let permissions = u32::from_str_radix(permissions, 16).expect("hex");
            assert_ne!(permissions & 0x8_0000, 0, "{line}");
        });
    }

    #[test]
    fn a_keyring_of_another_user_is_refused() {
        testing::in_child(|| {
            let name = CString::new("_ses.b.test").expect("name");
            let (root, nobody) = (0.into(), 65534.into());
            nix::unistd::setresuid(nobody, nobody, root).expect("setresuid");
            let key = sys::join_session_keyring(&name).expect("join");
            // Others may look at it and search it, hence join it.
            sys::set_key_permissions(key, 0x3f3f_0009).expect("permissions");
            nix::unistd::setresuid(root, root, root).expect("setresuid");
            let refused = join_new("b.test", false).expect_err("joined");
            assert!(
                refused.to_string().contains("another user's"),
                "{refused:?}"
            );
            join_again("b.test").expect_err("joined again");
        });
    }
}
