//! Limits of Reverb's apps: which source wins, and what 0 means to Reverb.

use super::{
    Flags, Settings,
    reverb_file_tests::{NAME, changed},
    tests::{APP, REVERB, load, with},
};

fn start(environment: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Settings, String> {
    load(&Flags::default(), environment, files)
}

#[test]
fn of_the_two_ways_to_write_a_rate_the_highest_source_counts() {
    let id = ("SOUNDPOST_APPS__0__ID", "1");
    let by_minute = ("SOUNDPOST_APPS__0__MESSAGES_PER_MINUTE", "30");
    let by_window = ("SOUNDPOST_APPS__0__MESSAGES_PER_WINDOW", "40");
    let enabled = ("REVERB_APP_RATE_LIMITING_ENABLED", "true");
    let mine = format!("{APP}messages_per_minute = 5\n").replace("\"a\"", "\"1\"");
    let literal = changed("'enabled' => env('REVERB_APP_RATE", "'enabled' => true,");
    let (mine, literal) = (("soundpost.toml", mine.as_str()), (NAME, literal.as_str()));
    for (more, files, expected) in [
        (vec![enabled], vec![], Some(60)),
        (vec![enabled], vec![mine], Some(60)),
        (vec![enabled, id, by_minute], vec![mine], Some(30)),
        (vec![id, by_window], vec![mine], Some(40)),
        (vec![], vec![literal], Some(60)),
        (vec![], vec![literal, mine], Some(5)),
        (vec![id, by_minute], vec![literal, mine], Some(30)),
        (vec![("REVERB_APP_RATE_LIMITING_ENABLED", "false")], vec![mine], None),
    ] {
        let rate = start(&with(REVERB, &more), &files).unwrap().apps[0].message_rate;
        assert_eq!(rate.map(|rate| rate.messages_max.get()), expected, "{more:?} {files:?}");
    }
    let both = start(&with(REVERB, &[id, by_minute, by_window]), &[]).unwrap_err();
    assert!(both.contains("exclude each other; set one"), "{both}");
}

#[test]
fn what_lets_nothing_in_with_reverb_does_not_become_no_limit() {
    for (zero, expected) in [
        (("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", "0"), "Reverb lets no message in at 0"),
        (("REVERB_APP_MAX_CONNECTIONS", "-1"), "Reverb lets nobody in at 0"),
    ] {
        let refused =
            start(&with(REVERB, &[("REVERB_APP_RATE_LIMITING_ENABLED", "true"), zero]), &[]).unwrap_err();
        assert!(refused.contains(expected) && refused.contains(zero.0), "{refused}");
    }
    let file = changed("'max_attempts'", "'max_attempts' => env('REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS', 0),");
    let enabled = ("REVERB_APP_RATE_LIMITING_ENABLED", "true");
    let refused = start(&with(REVERB, &[enabled]), &[(NAME, &file)]).unwrap_err();
    let problem = "apps.apps.0.rate_limiting.max_attempts is 0, at which Reverb lets no message in; set messages_per_minute in";
    assert!(refused.contains(problem), "{refused}");
    assert_eq!(start(REVERB, &[(NAME, &file)]).unwrap().apps[0].message_rate, None, "it is off");
}
