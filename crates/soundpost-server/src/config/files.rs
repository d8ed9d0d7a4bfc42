//! The files that the settings come from, and whether they have changed since they were read.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::ConfigError;

/// Bytes of a file of settings that are read at most; real ones have a few thousand.
pub const BYTES_MAX: usize = 1 << 20;

/// The text of a file of settings. Errors: [`ConfigError::Read`]; [`ConfigError::Syntax`] if it is too long or no text.
pub(super) fn read_text(path: &Path) -> Result<String, ConfigError> {
    let unread = |source| ConfigError::Read { path: path.to_owned(), source };
    let bytes_max = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unread)?;
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(unread)?;
    text(bytes, path)
}

/// The text that `bytes` of a file are. Errors: [`ConfigError::Syntax`], with the line that is no UTF-8.
pub fn text(bytes: Vec<u8>, path: &Path) -> Result<String, ConfigError> {
    let refuse = |line, problem| Err(ConfigError::Syntax { path: path.to_owned(), line, problem });
    if bytes.len() > BYTES_MAX {
        return refuse(None, format!("has more than {BYTES_MAX} bytes, so it is no configuration"));
    }
    String::from_utf8(bytes).or_else(|error| {
        let before = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = before.filter(|byte| **byte == b'\n').count() + 1;
        refuse(Some(line), "is not UTF-8 text: save the file in UTF-8".to_owned())
    })
}

/// What tells one state of a file from another without reading it. Behind a symbolic link it is the file's, so a link
/// that is pointed elsewhere, as Kubernetes does with a config map, is a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    /// Seconds and nanoseconds: also moves when somebody sets `modified` back, as `cp -p` does.
    changed: (i64, i64),
    length: u64,
    device: u64,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        // A pipe or a directory in a file's place is none of what is watched.
        let file = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Self {
            modified: file.modified().ok(),
            changed: (file.ctime(), file.ctime_nsec()),
            length: file.len(),
            device: file.dev(),
            inode: file.ino(),
        })
    }
}

/// Files that were read or looked for, each with its state at that moment. Whatever reads a file for the settings
/// notes it here first, the ones that are not there too: a file that comes is a change like any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Option<Stamp>>);

impl Files {
    /// Notes a file and its state. To be called before it is read, so that no change between the two goes unseen.
    pub fn note(&mut self, path: &Path) {
        self.0.insert(path.to_owned(), Stamp::of(path));
    }

    /// The same files as they are now.
    #[must_use]
    pub fn now(&self) -> Self {
        Self(self.0.keys().map(|path| (path.clone(), Stamp::of(path))).collect())
    }

    /// The first file that was there when `before` was noted, and now was looked for in vain.
    pub fn lost_since(&self, before: &Self) -> Option<&Path> {
        let was_there = |path: &PathBuf| before.0.get(path).is_some_and(Option::is_some);
        self.0.iter().find(|(path, stamp)| stamp.is_none() && was_there(path)).map(|(path, _)| path.as_path())
    }

    /// The files, in the order of their names.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::tests::Dir;

    #[test]
    fn what_is_no_text_or_too_long_is_refused_with_its_line() {
        let folder = Dir::new(&[]);
        let path = folder.0.join(".env");
        let refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let refused = read_text(&path).map_err(|error| error.to_string());
            refused.map_err(|text| text.replace(&format!("{}/", folder.0.display()), ""))
        };
        for (bytes, expected) in [
            (&b"A=1\n"[..], Ok("A=1\n")),
            (b"A=1\n# caf\xe9\n", Err(".env:2: is not UTF-8 text: save the file in UTF-8")),
            (&[b'#'; BYTES_MAX + 1], Err(".env: has more than 1048576 bytes, so it is no configuration")),
        ] {
            assert_eq!(refused(bytes).as_deref().map_err(String::as_str), expected);
        }
        assert!(
            read_text(Path::new("/dev/zero")).unwrap_err().to_string().starts_with("/dev/zero: has more")
        );
        assert!(read_text(&folder.0).unwrap_err().to_string().starts_with("cannot read "));
    }

    #[test]
    fn every_way_to_change_a_file_is_seen() {
        let folder = Dir::new(&[]);
        let path = folder.0.join("a");
        type Change<'a> = &'a dyn Fn();
        let steps: [(&str, Change<'_>); 7] = [
            ("made", &|| fs::write(&path, "one").unwrap()),
            ("written over", &|| fs::write(&path, "three").unwrap()),
            ("replaced by a renamed one of the same length", &|| {
                fs::write(folder.0.join("b"), "seven").unwrap();
                fs::rename(folder.0.join("b"), &path).unwrap();
            }),
            ("its time set back", &|| {
                let file = fs::File::options().write(true).open(&path).unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }),
            ("removed", &|| fs::remove_file(&path).unwrap()),
            ("made a link", &|| {
                fs::create_dir(folder.0.join("v1")).unwrap();
                fs::create_dir(folder.0.join("v2")).unwrap();
                fs::write(folder.0.join("v1/a"), "1").unwrap();
                fs::write(folder.0.join("v2/a"), "1").unwrap();
                symlink("v1", folder.0.join("data")).unwrap();
                symlink("data/a", &path).unwrap();
            }),
            ("the link's folder pointed elsewhere", &|| {
                symlink("v2", folder.0.join("next")).unwrap();
                fs::rename(folder.0.join("next"), folder.0.join("data")).unwrap();
            }),
        ];
        let mut files = Files::default();
        files.note(&path);
        for (what, change) in steps {
            assert_eq!(files.now(), files, "before it was {what}");
            change();
            let now = files.now();
            assert_ne!(now, files, "{what}");
            files = now;
        }
    }

    #[test]
    fn only_a_file_that_was_there_can_be_lost() {
        let folder = Dir::new(&[]);
        let [there, never, dropped] = ["there", "never", "dropped"].map(|name| folder.0.join(name));
        fs::write(&there, "").unwrap();
        fs::write(&dropped, "").unwrap();
        let mut before = Files::default();
        [&there, &never, &dropped].into_iter().for_each(|path| before.note(path));
        fs::remove_file(&there).unwrap();
        fs::remove_file(&dropped).unwrap();
        let mut after = Files::default();
        [&there, &never].into_iter().for_each(|path| after.note(path));
        assert_eq!(after.lost_since(&before), Some(there.as_path()));
        assert_eq!(before.lost_since(&after), None);
    }
}
