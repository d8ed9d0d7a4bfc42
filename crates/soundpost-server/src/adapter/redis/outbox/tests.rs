use super::*;

fn publish(topic: u64, bytes: usize) -> Publish {
    Publish {
        command: vec![0; bytes],
        message_at: Some(0),
        slot: 0,
        topic,
        sequence: 0,
        taken_at: Instant::now(),
        broadcast: None,
        told: None,
        done: Done::Nobody,
    }
}

fn open() -> Outbox {
    let outbox = Outbox::default();
    outbox.open();
    outbox
}

fn take(outbox: &Outbox, commands: usize, bytes: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    outbox.take(commands, bytes, true, &mut taken);
    taken.iter().map(|publish| publish.topic).collect()
}

#[test]
fn takes_within_the_window_but_never_nothing() {
    let outbox = open();
    outbox.put((0..4).map(|topic| publish(topic, 100)).collect()).unwrap();
    assert_eq!(take(&outbox, 0, 999).len(), 0);
    assert_eq!(take(&outbox, 9, 250), [0, 1], "in the order of taking");
    assert_eq!(take(&outbox, 9, 10).len(), 1, "one that is too long goes alone");
    assert_eq!(outbox.fill(), (1, 100));
}

#[test]
fn a_full_outbox_and_a_closed_one_take_nothing_of_a_request() {
    let outbox = open();
    outbox.put(vec![publish(1, PUBLISH_BYTES_MAX + 1)]).unwrap();
    let (refused, given_back) = outbox.put(vec![publish(1, 40), publish(1, 40)]).unwrap_err();
    assert_eq!((refused, given_back.len()), (Refused::Full, 2));
    assert_eq!(outbox.close().len(), 1);
    assert!(outbox.is_open(), "who came meanwhile is behind those");
    assert_eq!(outbox.close().len(), 0);
    assert_eq!(outbox.put(vec![publish(1, 40)]).unwrap_err().0, Refused::Away);
}

#[test]
fn what_is_late_is_taken_back() {
    let outbox = open();
    outbox.put(vec![publish(1, 40)]).unwrap();
    let between = Instant::now();
    let mut later = publish(1, 40);
    later.taken_at = between + std::time::Duration::from_millis(1);
    outbox.put(vec![later]).unwrap();
    assert_eq!(outbox.withdraw(between).len(), 1);
    assert_eq!(outbox.fill(), (1, 40));
}

#[test]
fn a_request_hears_the_worst_of_its_publishes() {
    for (outcomes, expected) in [
        (vec![Ok(()), Ok(())], Ok(())),
        (vec![Ok(()), Err(Refused::Away)], Err(Refused::Unconfirmed)),
        (vec![Err(Refused::Away), Err(Refused::Away)], Err(Refused::Away)),
        (vec![Ok(()), Err(Refused::Full)], Err(Refused::Full)),
        (vec![Err(Refused::Unconfirmed), Err(Refused::Away)], Err(Refused::Unconfirmed)),
    ] {
        let (sender, mut receiver) = oneshot::channel();
        let batch = Batch::new(outcomes.len(), sender);
        for outcome in outcomes {
            assert!(receiver.try_recv().is_err());
            Done::Batch(Arc::clone(&batch)).complete(outcome);
        }
        assert_eq!(receiver.try_recv(), Ok(expected));
    }
}
