//! Each target over its seeds and a few thousand inputs made of them; `cargo xtask fuzz` makes millions.

use std::collections::BTreeSet;

use soundpost_fuzz::{Outcome, TARGETS, corpus::Corpus, engine::Engine};

/// For each target; debug builds are slow.
const INPUTS: usize = if cfg!(debug_assertions) { 1000 } else { 20_000 };

#[test]
fn every_property_holds_for_seeds_and_what_is_made_of_them() {
    for target in TARGETS {
        let corpus = Corpus::read(target.name).unwrap();
        let accepted = corpus.seeds.iter().filter(|seed| (target.run)(seed) == Outcome::Accepted).count();
        assert!(accepted * 3 >= corpus.seeds.len(), "{}: most seeds are refused", target.name);
        let mut engine = Engine::new(corpus, 1, target.name);
        let mut input = Vec::new();
        for index in 0..INPUTS {
            engine.next(&mut input);
            let outcome = std::panic::catch_unwind(|| (target.run)(&input));
            let outcome = outcome.unwrap_or_else(|_| {
                panic!(
                    "{} does not hold for input {index}: {:?}",
                    target.name,
                    input.escape_ascii().to_string()
                )
            });
            engine.learn(&input, outcome);
        }
    }
}

#[test]
fn seeds_dictionaries_and_libfuzzer_have_the_same_targets() {
    let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len());
    for folder in ["seeds", "dictionaries", "fuzz/fuzz_targets"] {
        let entries =
            std::fs::read_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
        let stems =
            entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
        assert_eq!(stems.collect::<BTreeSet<_>>(), names, "{folder}");
    }
}
