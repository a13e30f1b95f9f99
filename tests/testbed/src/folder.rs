//! A private temporary folder. A name part enters, an empty folder with mode 0700 leaves, and it is removed on drop.
//! It must never be removed while a process still writes into it: let processes that outlive a killed starter take
//! care of it through [`crate::process::Spec::remove_at_end`].

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ring::rand::{SecureRandom, SystemRandom};

/// A folder that is removed with all it holds when this is dropped.
#[derive(Debug)]
pub struct TempFolder {
    path: PathBuf,
}

impl TempFolder {
    /// Makes `<temporary folder>/robotosecret-<name>-<16 random hex digits>` with mode 0700.
    pub fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("robotosecret-{name}-{}", random_hex(8)?));
        DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path })
    }

    /// The folder's absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder where it is and returns its path, for instance because its logs explain a failure.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.path)
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // An empty path is a kept folder; one that is already gone was removed by the guard of a process.
        if !self.path.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// `bytes` random bytes as lower case hex, from the system's generator.
pub fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0_u8; bytes];
    SystemRandom::new().fill(&mut random).map_err(|_| anyhow::anyhow!("the system gave no random bytes"))?;
    Ok(hex(&random))
}

/// Lower case hex of `bytes`, two digits a byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
