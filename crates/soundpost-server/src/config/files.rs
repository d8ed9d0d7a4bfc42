//! The files that the settings come from, and whether they have changed since they were read.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

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
