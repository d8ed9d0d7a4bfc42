//! What mutations start from: the seeds of a target and its dictionary.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Seeds and dictionary of one target. Never without a seed.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// Inputs made by hand, in the order of their file names.
    pub seeds: Vec<Vec<u8>>,
    /// Words that stand in inputs.
    pub words: Vec<Vec<u8>>,
}

impl Corpus {
    /// Reads `seeds/NAME/` and `dictionaries/NAME.dict` of this crate. Errors: they are not there, or the dictionary
    /// is malformed.
    pub fn read(name: &str) -> io::Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let entries = fs::read_dir(folder.join("seeds").join(name))?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
        paths.sort_unstable();
        let seeds = paths.iter().map(fs::read).collect::<io::Result<Vec<_>>>()?;
        if seeds.is_empty() {
            return Err(io::Error::other(format!("there are no seeds of {name}")));
        }
        let dictionary = fs::read_to_string(folder.join("dictionaries").join(format!("{name}.dict")))?;
        let malformed = |line| io::Error::other(format!("{name}.dict:{line} is not name=\"value\""));
        Ok(Self { seeds, words: words(&dictionary).map_err(malformed)? })
    }
}

/// The words of a dictionary in libFuzzer's form: `"word"` or `name="word"` a line, with `\\`, `\"` and `\xNN`, and
/// comments behind `#`. The error is the line.
fn words(text: &str) -> Result<Vec<Vec<u8>>, usize> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|(number, line)| word(line.trim()).ok_or(number)).collect()
}

fn word(line: &str) -> Option<Vec<u8>> {
    let (_, quoted) = line.split_once('"')?;
    let mut bytes = Vec::new();
    let mut rest = quoted.strip_suffix('"')?.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                (u8::from_str_radix(str::from_utf8(&[*high, *low]).ok()?, 16).ok()?, after)
            }
            (b'\\', [escaped @ (b'\\' | b'"'), after @ ..]) => (*escaped, after),
            (b'\\' | b'"', _) => return None,
            (byte, after) => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries_read_as_libfuzzer_reads_them() {
        let text = "# words\n\nname=\"a b\"\n\"\\x00\\xfF\\\\\\\"\"\n";
        assert_eq!(words(text), Ok(vec![b"a b".to_vec(), b"\x00\xff\\\"".to_vec()]));
        for line in ["word", "\"word", "\"\\n\"", "\"a\"b\"", "\"\\x0\""] {
            assert_eq!(words(line), Err(1), "{line}");
        }
    }
}
