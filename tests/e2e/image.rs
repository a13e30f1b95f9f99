//! Images without a registry and without a container engine. A binary enters, OCI archives that containerd takes leave, and what is in our
//! image is looked at. The image is made by the Dockerfile's own final stage, over a binary that was built outside; nothing is pulled.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testbed::{install, node};

use crate::stage::output;

/// The image of this checkout.
pub const CURRENT: &str = "localhost/robotosecret:e2e";
/// The image of [`crate::previous`].
pub const PREVIOUS: &str = "localhost/robotosecret:previous";
/// The image of the pods that read Secrets: Debian's busybox and nothing else.
pub const READER: &str = "localhost/reader:1";

/// Where Debian keeps them, as the Dockerfile's build stage does.
const CA_CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// A folder in which images are made.
pub struct Builder {
    folder: PathBuf,
}

impl Builder {
    pub fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Our image, as the Dockerfile makes it, around `binary`; its archive.
    pub fn ours(&self, name: &str, binary: &Path) -> Result<PathBuf> {
        // What the Dockerfile's final stage copies from the stage "build", which this folder takes the place of.
        let build = self.folder.join("build");
        let _ = std::fs::remove_dir_all(&build);
        let certificates = build.join(CA_CERTIFICATES);
        std::fs::create_dir_all(certificates.parent().context("a folder")?)?;
        std::fs::copy(Path::new("/").join(CA_CERTIFICATES), &certificates)?;
        std::fs::copy(binary, build.join("robotosecret")).with_context(|| format!("copying {}", binary.display()))?;
        let root = install::root()?;
        output(Command::new(root.join(".ci/licenses")).arg(build.join("licenses")).current_dir(&root))?;
        let dockerfile = root.join("Dockerfile");
        self.make(name, &dockerfile, &["--build-context", &format!("build={}", build.display())], &root)
    }

    /// One image of busybox for the pause container and for the pods that read; both archives.
    pub fn busybox(&self) -> Result<[PathBuf; 2]> {
        let folder = self.folder.join("busybox");
        std::fs::create_dir_all(&folder)?;
        std::fs::copy("/bin/busybox", folder.join("busybox")).context("copying busybox")?;
        let dockerfile = folder.join("Dockerfile");
        std::fs::write(&dockerfile, "FROM scratch\nCOPY busybox /bin/busybox\nENTRYPOINT [\"/bin/busybox\", \"sleep\", \"2147483647\"]\n")?;
        Ok([self.make(node::PAUSE, &dockerfile, &[], &folder)?, self.make(READER, &dockerfile, &[], &folder)?])
    }

    fn make(&self, name: &str, dockerfile: &Path, options: &[&str], context: &Path) -> Result<PathBuf> {
        let mut build = self.buildah();
        build.args(["bud", "--isolation", "chroot", "--pull-never", "--tag", name, "--file"]).arg(dockerfile).args(options).arg(context);
        output(&mut build)?;
        let archive = self.folder.join(format!("{}.tar", name.replace(['/', ':'], "-")));
        output(self.buildah().args(["push", name, &format!("oci-archive:{}:{name}", archive.display())]))?;
        Ok(archive)
    }

    /// Looks at our image: who runs it, what it says of itself, and that it holds what it must and nothing else. Its size in bytes.
    pub fn check_ours(&self, name: &str, limit: u64) -> Result<u64> {
        let description: Value = serde_json::from_str(&output(self.buildah().args(["inspect", "--type", "image", name]))?)?;
        let config = &description["OCIv1"]["config"];
        ensure!(config["User"] == "65532:65532", "the image runs as {}", config["User"]);
        ensure!(config["Entrypoint"] == serde_json::json!(["/robotosecret"]), "the image starts {}", config["Entrypoint"]);
        for label in ["title", "description", "licenses", "version", "revision"] {
            let value = &config["Labels"][format!("org.opencontainers.image.{label}")];
            ensure!(value.is_string(), "the image lacks the label {label}");
        }

        let container = output(self.buildah().args(["from", "--pull-never", name]))?;
        let mounted = output(self.buildah().args(["mount", container.trim()]))?;
        let root = Path::new(mounted.trim());
        let mut files = BTreeSet::new();
        let size = walk(root, root, &mut files)?;
        let outside = files.iter().filter(|file| !file.starts_with("licenses/") && !["robotosecret", CA_CERTIFICATES].contains(&file.as_str()));
        // So there is no shell, either.
        ensure!(outside.clone().next().is_none(), "the image holds more than it should: {:?}", outside.collect::<Vec<_>>());
        for file in ["robotosecret", CA_CERTIFICATES, "licenses/LICENSE", "licenses/linked/INDEX"] {
            ensure!(files.contains(file), "the image lacks {file}");
        }
        output(self.buildah().args(["rm", container.trim()]))?;
        ensure!(size < limit * 1_000_000, "the image holds {:.1} MB, and {limit} is the limit", megabytes(size));
        Ok(size)
    }

    fn buildah(&self) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.folder.join("storage")).arg("--runroot").arg(self.folder.join("run")).args(["--storage-driver", "vfs"]);
        command
    }
}

/// For people.
#[allow(clippy::cast_precision_loss)]
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Adds the files below `folder`, each by its path from `root`; their sizes together.
fn walk(root: &Path, folder: &Path, files: &mut BTreeSet<String>) -> Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            size += walk(root, &path, files)?;
        } else if kind.is_file() {
            size += entry.metadata()?.len();
            files.insert(path.strip_prefix(root)?.display().to_string());
        } else {
            bail!("{} is neither a file nor a folder", path.display());
        }
    }
    Ok(size)
}
