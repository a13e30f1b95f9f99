//! The cache on disk: files in a folder of one user's, which survive the process.
//!
//! What was read enters and leaves; what is written is sealed before. A file that is damaged, too old, another key's or not there is `None`, and what can't be
//! written is not kept: nothing here is an error, once the folder is open. Only files that are named as ours are ever touched. Blocks the thread.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File},
    io::{Read, Write},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags},
    io::Errno,
    process,
};

use super::{
    Error,
    sealing::{Keys, hex, random},
};
use crate::{
    api::reference::{Source, Store},
    provider::Reading,
};

/// How our files end, so that nobody else's is taken for one.
const ENDING: &str = ".robotosecret";
/// How they end while they are written.
const UNFINISHED: &str = ".robotosecret-new";
/// Who takes longer to write one is no more.
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);
/// Longer than what any store keeps, in bytes.
const MOST: u64 = 4 << 20;

/// A folder that is open.
pub(super) struct Disk {
    folder: OwnedFd,
    keys: BTreeMap<Store, Keys>,
    /// How many are kept, and for how long.
    values: u64,
    life: Duration,
    /// Held while something is put there or all is removed, so that nothing comes in between.
    turn: Mutex<()>,
}

/// Now, in milliseconds since 1970.
pub(super) fn now() -> u64 {
    millis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Opens the folder, and makes it if it isn't there. One that somebody else owns or may enter is refused.
pub(super) fn folder(path: &Path) -> Result<OwnedFd, Error> {
    let refused = |problem: &str| Error::InvalidRequest(format!("the cache on disk, {}: {problem}", path.display()));
    let failed = |error: Errno| refused(&format!("it can't be opened: {}", std::io::Error::from(error).kind()));
    // With a slash at its end a link would be followed.
    let plain: PathBuf = path.components().collect();
    DirBuilder::new().recursive(true).mode(0o700).create(&plain).map_err(|error| refused(&format!("it can't be made: {}", error.kind())))?;
    let folder = fs::openat(CWD, &plain, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let folder =
        folder.map_err(|error| if matches!(error, Errno::LOOP | Errno::NOTDIR) { refused("it is a link; name the folder itself") } else { failed(error) })?;
    let stat = fs::fstat(&folder).map_err(failed)?;
    if stat.st_uid != process::geteuid().as_raw() {
        return Err(refused("it belongs to another user"));
    }
    if stat.st_mode & 0o077 != 0 {
        return Err(refused("others may enter it; take that from them (chmod 700), or name a folder that isn't there yet"));
    }
    Ok(folder)
}

impl Disk {
    pub(super) const fn new(folder: OwnedFd, keys: BTreeMap<Store, Keys>, values: u64, life: Duration) -> Self {
        Self { folder, keys, values, life, turn: Mutex::new(()) }
    }

    /// What was read, no longer ago than it is kept.
    pub(super) fn get(&self, source: &Source, now: u64) -> Option<Reading> {
        let keys = self.keys.get(&source.store)?;
        let name = keys.name(source) + ENDING;
        let (read, reading) = keys.open(source, self.content(&name)?)?;
        // A clock that was set back says nothing about how old it is.
        if read <= now && now - read < millis(self.life) {
            return Some(reading);
        }
        self.unlink(&name);
        None
    }

    /// Keeps what was read at this time, if that still holds.
    pub(super) fn put(&self, source: &Source, read: u64, reading: &Reading, holds: impl Fn() -> bool) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if !holds() {
            return;
        }
        let write = || -> Option<()> {
            let keys = self.keys.get(&source.store)?;
            let sealed = keys.seal(source, read, reading)?;
            let unfinished = hex(&random::<16>()?) + UNFINISHED;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(fs::openat(&self.folder, &unfinished, flags, Mode::RUSR | Mode::WUSR).ok()?);
            let written = file.write_all(&sealed).is_ok() && fs::renameat(&self.folder, &unfinished, &self.folder, keys.name(source) + ENDING).is_ok();
            if !written {
                self.unlink(&unfinished);
            }
            written.then_some(())
        };
        if write().is_none() {
            // What is there is older than what could not be written.
            self.remove(source);
        }
        self.tidy(now());
    }

    pub(super) fn remove(&self, source: &Source) {
        if let Some(keys) = self.keys.get(&source.store) {
            self.unlink(&(keys.name(source) + ENDING));
        }
    }

    /// Removes all of ours, also what others have put there with another key.
    pub(super) fn empty(&self) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.names().iter().filter(|name| name.ends_with(ENDING)).for_each(|name| self.unlink(name));
    }

    fn content(&self, name: &str) -> Option<Vec<u8>> {
        // Whoever put a pipe there would have it waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(fs::openat(&self.folder, name, flags, Mode::empty()).ok()?);
        let mut bytes = Vec::new();
        let known = file.metadata().ok().filter(|known| known.is_file() && known.len() <= MOST)?;
        bytes.reserve_exact(usize::try_from(known.len()).ok()?);
        file.take(MOST).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// The files that are named as ours are.
    fn names(&self) -> Vec<String> {
        let Ok(all) = Dir::read_from(&self.folder) else { return Vec::new() };
        let name = |entry: fs::DirEntry| entry.file_name().to_str().ok().map(str::to_owned);
        let is_ours = |name: &String| {
            let (hex, length) = name.strip_suffix(ENDING).map_or((name.strip_suffix(UNFINISHED), 32), |hex| (Some(hex), 64));
            hex.is_some_and(|hex| hex.len() == length && hex.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        all.flatten().filter_map(name).filter(is_ours).collect()
    }

    /// Removes what is too old, what nobody finishes, and the oldest of too many.
    fn tidy(&self, now: u64) {
        let mut kept = Vec::new();
        for name in self.names() {
            let Ok(stat) = fs::statat(&self.folder, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let written = u64::try_from(stat.st_mtime).unwrap_or_default() * 1_000;
            let life = if name.ends_with(UNFINISHED) { WRITTEN_WITHIN } else { self.life };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                continue;
            }
            // A second more: that is how exact the time is.
            if written.saturating_add(millis(life)).saturating_add(1_000) < now {
                self.unlink(&name);
            } else if name.ends_with(ENDING) {
                kept.push(((stat.st_mtime, stat.st_mtime_nsec), name));
            }
        }
        let surplus = kept.len().saturating_sub(usize::try_from(self.values).unwrap_or(usize::MAX));
        if surplus > 0 {
            kept.sort_unstable();
            kept.iter().take(surplus).for_each(|(_, name)| self.unlink(name));
        }
    }

    fn unlink(&self, name: &str) {
        // Another process may have been faster, and whoever can't remove it can't do more.
        let _ = fs::unlinkat(&self.folder, name, AtFlags::empty());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        fs::{self as files, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::{
        super::sealing::tests::{keys, reading, source},
        *,
    };
    use crate::provider::Value;

    /// A folder that isn't there yet; it is removed at the end.
    pub(in crate::secrets) struct Place(PathBuf);

    impl Place {
        pub(in crate::secrets) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("robotosecret-disk-{name}-{}", std::process::id()));
            let _ = files::remove_dir_all(&path);
            Self(path)
        }

        pub(in crate::secrets) fn disk(&self, key: u8, values: u64) -> Disk {
            Disk::new(folder(&self.0).unwrap(), BTreeMap::from([(Store::Vault, keys(key, "me"))]), values, Duration::from_secs(60))
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> = files::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = files::remove_dir_all(&self.0);
        }
    }

    fn text(reading: Option<Reading>) -> Option<String> {
        match reading?.value {
            Value::Text(text) => Some(String::from_utf8(text.expose().to_vec()).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_read_is_there_until_its_time_is_over_and_then_its_file_is_gone() {
        let place = Place::new("time");
        let (disk, db, at) = (place.disk(1, 10), source("vault://kv/db"), now());
        assert_eq!(text(disk.get(&db, at)), None);
        disk.put(&db, at, &reading(b"one"), || true);
        assert_eq!(text(disk.get(&db, at)).as_deref(), Some("one"));
        disk.put(&db, at, &reading(b"two"), || true);
        assert_eq!(text(place.disk(1, 10).get(&db, at + 59_999)).as_deref(), Some("two"));
        assert_eq!(place.names().len(), 1);
        let mode = |path: &Path| files::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&place.0), mode(&place.0.join(&place.names()[0]))), (0o700, 0o600));
        assert_eq!(text(disk.get(&db, at + 60_000)), None);
        assert_eq!(place.names().len(), 0);
        // A clock that was set back can't tell how old it is.
        disk.put(&db, at, &reading(b"three"), || true);
        assert_eq!((text(disk.get(&db, at - 1)), place.names().len()), (None, 0));
        // Another store has no keys here.
        disk.put(&source("aws.sm://db"), at, &reading(b"four"), || true);
        assert_eq!(place.names().len(), 0);
        disk.put(&db, at, &reading(b"five"), || true);
        disk.remove(&source("vault://kv/other"));
        assert_eq!(place.names().len(), 1);
        disk.remove(&db);
        assert_eq!(place.names().len(), 0);
    }

    #[test]
    fn what_is_damaged_swapped_or_another_keys_is_as_if_it_were_not_there() {
        let place = Place::new("damaged");
        let (disk, db, other, at) = (place.disk(1, 10), source("vault://kv/db"), source("vault://kv/other"), now());
        disk.put(&db, at, &reading(b"one"), || true);
        let file = place.0.join(&place.names()[0]);
        disk.put(&other, at, &reading(b"two"), || true);
        let second = place.names().into_iter().map(|name| place.0.join(name)).find(|path| *path != file).unwrap();
        let (one, two) = (files::read(&file).unwrap(), files::read(&second).unwrap());
        assert_eq!(text(place.disk(2, 10).get(&db, at)), None, "another key");
        let mut flipped = one.clone();
        flipped[25] ^= 1;
        for (content, what) in
            [(&two, "another's"), (&flipped, "a bit"), (&one[..one.len() - 1].to_vec(), "cut"), (&Vec::new(), "empty"), (&vec![0; 5 << 20], "large")]
        {
            files::write(&file, content).unwrap();
            assert_eq!(text(disk.get(&db, at)), None, "{what}");
        }
        // What is no file is not opened, and not waited for.
        files::remove_file(&file).unwrap();
        symlink(&second, &file).unwrap();
        assert_eq!(text(disk.get(&other, at)).as_deref(), Some("two"));
        files::write(&second, &one).unwrap();
        assert_eq!(text(disk.get(&db, at)), None, "a link to what would be right");
        files::remove_file(&file).unwrap();
        files::create_dir(&file).unwrap();
        assert_eq!(text(disk.get(&db, at)), None, "a folder");
        disk.put(&db, at, &reading(b"three"), || true);
        assert_eq!(text(disk.get(&db, at)), None, "where nothing can be written, nothing is kept");
        files::remove_dir(&file).unwrap();
        disk.put(&db, at, &reading(b"three"), || true);
        assert_eq!(text(disk.get(&db, at)).as_deref(), Some("three"));
        files::remove_dir_all(&place.0).unwrap();
        disk.put(&db, at, &reading(b"four"), || true);
        assert_eq!(text(disk.get(&db, at)), None, "the folder is gone");
    }

    #[test]
    fn the_oldest_go_and_nobody_elses_files() {
        let place = Place::new("bound");
        let (disk, at) = (place.disk(1, 3), now());
        let unfinished = format!("{}{UNFINISHED}", "a".repeat(32));
        let others = ["notes.txt".to_owned(), format!("x{ENDING}"), format!("{}.txt", "a".repeat(64)), format!("{}{UNFINISHED}", "g".repeat(32))];
        for number in 0..5 {
            let source = source(&format!("vault://kv/{number}"));
            disk.put(&source, at, &reading(b"x"), || true);
            // As if each were written a second before the next.
            let file = File::options().write(true).open(place.0.join(keys(1, "me").name(&source) + ENDING)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(10 - number)).unwrap();
        }
        for name in others.iter().chain([&unfinished]) {
            files::write(place.0.join(name), "").unwrap();
        }
        disk.put(&source("vault://kv/5"), at, &reading(b"x"), || true);
        let there = |number: u64| text(disk.get(&source(&format!("vault://kv/{number}")), at)).is_some();
        assert_eq!((0..6).filter(|number| there(*number)).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(place.names().len(), 3 + 5, "what is being written now stays");
        // What nobody finished in a minute nobody will, and what is too old goes whoever's it is.
        let aged =
            |name: &str| File::options().write(true).open(place.0.join(name)).unwrap().set_modified(SystemTime::now() - Duration::from_secs(62)).unwrap();
        let old = place.names().into_iter().find(|name| name.len() == 64 + ENDING.len()).unwrap();
        others.iter().chain([&unfinished, &old]).for_each(|name| aged(name));
        disk.tidy(now());
        assert_eq!(place.names().len(), 2 + 4);
        disk.empty();
        let mut left = others.to_vec();
        left.sort();
        assert_eq!(place.names(), left);
    }

    #[test]
    fn a_folder_that_others_may_enter_or_that_is_a_link_is_refused() {
        let place = Place::new("folder");
        let refused = |path: &Path| folder(path).unwrap_err().to_string();
        drop(folder(&place.0.join("a/b")).unwrap());
        for mode in [0o755, 0o710, 0o701] {
            files::set_permissions(&place.0, Permissions::from_mode(mode)).unwrap();
            assert!(refused(&place.0).contains("others may enter it"), "{mode:o}");
        }
        files::set_permissions(&place.0, Permissions::from_mode(0o700)).unwrap();
        drop(folder(&place.0).unwrap());
        symlink(place.0.join("a"), place.0.join("link")).unwrap();
        for link in ["link", "link/"] {
            assert!(refused(&place.0.join(link)).contains("it is a link"), "{link}");
        }
        files::write(place.0.join("file"), "").unwrap();
        assert!(refused(&place.0.join("file")).contains("it can't be made"));
        if process::geteuid().is_root() {
            std::os::unix::fs::chown(place.0.join("a"), Some(12345), None).unwrap();
            assert!(refused(&place.0.join("a")).contains("it belongs to another user"));
        }
    }
}
