//! What the suite says became of its cases, and whether that is good enough.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

/// The groups of cases that are run, and how many cases each has: one that is left out is a failure, too.
pub(super) const GROUPS: [(u32, usize); 9] =
    [(1, 16), (2, 11), (3, 7), (4, 10), (5, 20), (6, 145), (7, 37), (9, 54), (10, 1)];

/// The group of UTF-8, in which a wrong byte must be noticed at once to pass strictly; here nothing less will do.
const STRICT_GROUP: u32 = 6;

/// Why a report is no good.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReportError {
    /// Not the form of the suite's `index.json`.
    #[error("the report cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The report lacks what the suite always writes.
    #[error("the report has no {what}")]
    Lacks {
        /// What.
        what: String,
    },
    /// Cases that did not go as they must, or were not run.
    #[error("{bad} cases are not as good as they must be, {missing} were not run")]
    NotGood {
        /// Run and not good.
        bad: usize,
        /// Not run.
        missing: usize,
    },
}

/// How one case went, in the suite's words: `OK`, `NON-STRICT`, `INFORMATIONAL`, `FAILED` and others.
#[derive(Debug)]
struct Case {
    id: String,
    behavior: String,
    close: String,
}

impl Case {
    fn is_good(&self, group: u32) -> bool {
        let behaves = match self.behavior.as_str() {
            "OK" | "INFORMATIONAL" => true,
            "NON-STRICT" => group != STRICT_GROUP,
            _ => false,
        };
        behaves && self.closes_well()
    }

    /// An informational case leaves open how it ends.
    fn closes_well(&self) -> bool {
        matches!(self.close.as_str(), "OK" | "INFORMATIONAL")
    }
}

/// All cases by group.
#[derive(Debug)]
pub(super) struct Report(BTreeMap<u32, Vec<Case>>);

impl Report {
    /// Reads the suite's `index.json`: for each agent, for each case, at least `behavior` and `behaviorClose`.
    pub(super) fn parse(json: &str, agent: &str) -> Result<Self, ReportError> {
        let lacks = |what: &str| ReportError::Lacks { what: what.to_owned() };
        let all: Value = serde_json::from_str(json)?;
        let cases = all.get(agent).and_then(Value::as_object).ok_or_else(|| lacks(agent))?;
        let mut groups: BTreeMap<u32, Vec<Case>> =
            GROUPS.into_iter().map(|(group, _)| (group, Vec::new())).collect();
        for (id, case) in cases {
            let word = |key| case.get(key).and_then(Value::as_str).map(str::to_owned);
            let group = id.split('.').next().and_then(|group| group.parse().ok());
            let (Some(group), Some(behavior), Some(close)) = (group, word("behavior"), word("behaviorClose"))
            else {
                return Err(lacks(&format!("verdict on case {id}")));
            };
            groups.entry(group).or_default().push(Case { id: id.clone(), behavior, close });
        }
        Ok(Self(groups))
    }

    /// Errors: [`ReportError::NotGood`] unless every case was run and is good.
    pub(super) fn check(&self) -> Result<(), ReportError> {
        let bad = self.bad().count();
        let run = |group| self.0.get(&group).map_or(0, Vec::len);
        let missing = GROUPS.into_iter().map(|(group, cases)| cases.saturating_sub(run(group))).sum();
        if bad + missing > 0 { Err(ReportError::NotGood { bad, missing }) } else { Ok(()) }
    }

    fn bad(&self) -> impl Iterator<Item = &Case> {
        self.0.iter().flat_map(|(group, cases)| cases.iter().filter(|case| !case.is_good(*group)))
    }
}

/// A table of the groups, and a line for each case that is not good.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "group  cases  passed  non-strict  informational  failed  close failures")?;
        let mut all = [0; 6];
        for (group, cases) in &self.0 {
            let count = |behavior| cases.iter().filter(|case| case.behavior == behavior).count();
            let (passed, non_strict, informational) =
                (count("OK"), count("NON-STRICT"), count("INFORMATIONAL"));
            let failed = cases.len() - passed - non_strict - informational;
            let close = cases.iter().filter(|case| !case.closes_well()).count();
            let counts = [cases.len(), passed, non_strict, informational, failed, close];
            all.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
            write_row(f, &group.to_string(), counts)?;
        }
        write_row(f, "all", all)?;
        for Case { id, behavior, close } in self.bad() {
            writeln!(f, "case {id}: {behavior}, close {close}")?;
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, group: &str, counts: [usize; 6]) -> fmt::Result {
    let [cases, passed, non_strict, informational, failed, close] = counts;
    writeln!(f, "{group:>5}{cases:>7}{passed:>8}{non_strict:>12}{informational:>15}{failed:>8}{close:>16}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A report in which every case went well, except those given.
    fn report(except: &[(&str, &str, &str)]) -> Report {
        let mut cases = serde_json::Map::new();
        for (group, count) in GROUPS {
            for case in 1..=count {
                let verdict = json!({ "behavior": "OK", "behaviorClose": "OK", "remoteCloseCode": 1000 });
                cases.insert(format!("{group}.{case}"), verdict);
            }
        }
        for (id, behavior, close) in except {
            cases.insert((*id).to_owned(), json!({ "behavior": behavior, "behaviorClose": close }));
        }
        Report::parse(&json!({ "us": cases }).to_string(), "us").unwrap()
    }

    #[test]
    fn only_what_must_be_good_is_asked_for() {
        for (id, behavior, close, good) in [
            ("1.1", "OK", "OK", true),
            ("5.1", "NON-STRICT", "OK", true),
            ("6.1", "NON-STRICT", "OK", false),
            ("7.1", "INFORMATIONAL", "INFORMATIONAL", true),
            ("7.1", "FAILED", "OK", false),
            ("7.1", "UNIMPLEMENTED", "OK", false),
            ("7.1", "OK", "UNCLEAN", false),
            ("7.1", "OK", "WRONG CODE", false),
            ("7.1", "OK", "FAILED BY CLIENT", false),
        ] {
            let report = report(&[(id, behavior, close)]);
            assert_eq!(report.check().is_ok(), good, "{id} {behavior} {close}");
            assert_eq!(report.to_string().contains(&format!("case {id}: {behavior}, close {close}")), !good);
        }
    }

    #[test]
    fn a_case_that_was_not_run_is_a_failure() {
        let mut report = report(&[]);
        report.0.get_mut(&9).unwrap().pop();
        let error = report.check().unwrap_err();
        assert_eq!(error.to_string(), "0 cases are not as good as they must be, 1 were not run");
        assert!(Report::parse(r#"{"us":{}}"#, "us").unwrap().check().is_err());
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for json in ["", "[]", r#"{"them":{}}"#, r#"{"us":{"1.1":{}}}"#, r#"{"us":{"x":{"behavior":"OK"}}}"#]
        {
            assert!(Report::parse(json, "us").is_err(), "{json}");
        }
    }

    #[test]
    fn the_table_counts_by_group() {
        let text = report(&[("6.1", "FAILED", "UNCLEAN"), ("7.1", "INFORMATIONAL", "OK")]).to_string();
        assert!(
            text.contains("\n    6    145     144           0              0       1               1\n"),
            "{text}"
        );
        assert!(
            text.contains("\n  all    301     299           0              1       1               1\n"),
            "{text}"
        );
    }
}
