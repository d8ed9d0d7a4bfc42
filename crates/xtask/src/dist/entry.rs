//! Files on their way into an archive.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use tar::{Builder, EntryType, Header};

use super::{DistError, at};

/// A file or, without content, a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Below the root of the archive; a folder's without a slash at its end.
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) content: Option<Vec<u8>>,
}

impl Entry {
    pub(super) const fn file(path: String, mode: u32, content: Vec<u8>) -> Self {
        Self { path, mode, content: Some(content) }
    }
}

/// Adds a file, or a folder with all that is in it, under the name `to`. Nothing of ours is executable but the binary.
pub(super) fn add_tree(entries: &mut Vec<Entry>, from: &Path, to: &str) -> Result<(), DistError> {
    if from.is_file() {
        entries.push(Entry::file(to.to_owned(), 0o644, fs::read(from).map_err(at(from))?));
        return Ok(());
    }
    for child in fs::read_dir(from).map_err(at(from))? {
        let child = child.map_err(at(from))?;
        add_tree(entries, &child.path(), &format!("{to}/{}", child.file_name().display()))?;
    }
    Ok(())
}

/// A compressed archive of `entries`, sorted, with the folders they lie in, all root's and of the second `time`.
pub(super) fn tar_gz(entries: &[Entry], time: u64) -> io::Result<Vec<u8>> {
    // No name and no time in its header.
    let gzip: GzEncoder<Vec<u8>> = GzBuilder::new().write(Vec::new(), Compression::best());
    let mut archive = Builder::new(gzip);
    for entry in with_folders(entries) {
        let mut header = Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_mtime(time);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("root")?;
        let content = entry.content.unwrap_or_default();
        header.set_size(content.len() as u64);
        let is_folder = entry.path.ends_with('/');
        header.set_entry_type(if is_folder { EntryType::Directory } else { EntryType::Regular });
        archive.append_data(&mut header, &entry.path, content.as_slice())?;
    }
    let mut gzip = archive.into_inner()?;
    gzip.flush()?;
    gzip.finish()
}

fn with_folders(entries: &[Entry]) -> Vec<Entry> {
    let mut all = entries.to_vec();
    for entry in entries {
        all.extend(entry.path.match_indices('/').filter_map(|(at, _)| {
            let path = entry.path.get(..=at)?.to_owned();
            Some(Entry { path, mode: 0o755, content: None })
        }));
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all.dedup_by(|a, b| a.path == b.path);
    all
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn an_archive_holds_its_files_sorted_and_is_the_same_each_time() {
        let file = |path: &str, mode| Entry::file(path.to_owned(), mode, path.as_bytes().to_vec());
        let entries = [file("a/z", 0o644), file("a/b/c", 0o755)];
        let archive = tar_gz(&entries, 1_700_000_000).unwrap();
        let other_way_round: Vec<_> = entries.iter().rev().cloned().collect();
        assert_eq!(archive, tar_gz(&other_way_round, 1_700_000_000).unwrap());
        assert_ne!(archive, tar_gz(&entries, 1_700_000_001).unwrap());

        let mut found = Vec::new();
        for entry in tar::Archive::new(GzDecoder::new(archive.as_slice())).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap()), (1_700_000_000, 0));
            let path = entry.path().unwrap().display().to_string();
            found.push((path, header.mode().unwrap(), content));
        }
        let row = |path: &str, mode, content: &str| (path.to_owned(), mode, content.to_owned());
        let expected = [
            row("a/", 0o755, ""),
            row("a/b/", 0o755, ""),
            row("a/b/c", 0o755, "a/b/c"),
            row("a/z", 0o644, "a/z"),
        ];
        assert_eq!(found, expected);
    }
}
