use super::*;

fn key(partition: i32) -> Key {
    Key { topic_id: Uuid::from_u128(7), tp: TopicPartition::new("orders", partition) }
}

fn at(offset: i64) -> Params {
    Params { offset, leader_epoch: 3, room: 1000 }
}

/// Returns the number of a request, and its partitions.
fn said(request: &SessionRequest) -> (i32, i32, Vec<(i32, i64)>, Vec<i32>) {
    let fetch = request.fetch.iter().map(|(key, params)| (key.tp.partition, params.offset));
    let forget = request.forget.iter().map(|key| key.tp.partition);
    (request.id, request.epoch, fetch.collect(), forget.collect())
}

fn session_of(partitions: &[i32]) -> Session {
    let mut session = Session::default();
    for partition in partitions {
        session.want(key(*partition), at(0));
    }
    session
}

#[test]
fn a_request_says_only_what_has_changed_since_the_last_one() {
    let mut session = session_of(&[0, 1, 2]);
    assert_eq!(said(&session.request()), (0, 0, vec![(0, 0), (1, 0), (2, 0)], vec![]));
    session.on_answer(9);
    assert_eq!(said(&session.request()), (9, 1, vec![], vec![]));
    session.on_answer(9);
    session.want(key(1), at(5));
    session.want(key(3), at(0));
    session.unwant(&key(2));
    assert_eq!(said(&session.request()), (9, 2, vec![(1, 5), (3, 0)], vec![2]));
    session.on_answer(9);
    // What was changed back, or came and went, is no change.
    session.want(key(1), at(6));
    session.want(key(1), at(5));
    session.unwant(&key(3));
    session.want(key(3), at(0));
    session.want(key(4), at(0));
    session.unwant(&key(4));
    assert_eq!(said(&session.request()), (9, 3, vec![], vec![]));
}

#[test]
fn the_leader_epoch_and_the_room_of_a_partition_are_changes_too() {
    let mut session = session_of(&[0]);
    session.request();
    session.on_answer(9);
    for changed in [Params { leader_epoch: 4, ..at(0) }, Params { room: 7, ..at(0) }] {
        session.want(key(0), changed);
        let request = session.request();
        assert_eq!(request.fetch, [(key(0), changed)]);
        session.on_answer(9);
    }
}

#[test]
fn a_partition_that_has_to_be_answered_anew_is_forgotten_first() {
    let mut session = session_of(&[0, 1]);
    session.request();
    session.on_answer(9);
    session.unwant(&key(1));
    session.renew(&key(1));
    session.want(key(1), at(0));
    assert_eq!(said(&session.request()), (9, 1, vec![], vec![1]));
    session.on_answer(9);
    assert_eq!(said(&session.request()), (9, 2, vec![(1, 0)], vec![]));
    session.on_answer(9);
    // One that the broker does not know is added at once.
    session.renew(&key(2));
    session.want(key(2), at(0));
    assert_eq!(said(&session.request()), (9, 3, vec![(2, 0)], vec![]));
}

#[test]
fn whatever_ends_a_session_a_full_request_begins_the_next() {
    type End = fn(&mut Session);
    let end: [(End, i32); 4] = [
        (Session::begin_anew, 9),
        (Session::on_unknown, 0),
        (|session| session.on_answer(0), 0),
        (|session| session.on_answer(5), 0),
    ];
    for (end, closed_id) in end {
        let mut session = session_of(&[0, 1]);
        session.request();
        session.on_answer(9);
        session.want(key(2), at(0));
        session.request();
        end(&mut session);
        let (id, epoch, mut fetch, forget) = said(&session.request());
        fetch.sort_unstable();
        assert_eq!(
            (id, epoch, fetch, forget),
            (closed_id, 0, vec![(0, 0), (1, 0), (2, 0)], vec![])
        );
    }
}

#[test]
fn without_sessions_every_request_is_full_and_each_partition_is_the_first_by_turns() {
    let mut session = session_of(&[0, 1, 2]);
    let mut firsts = Vec::new();
    for _ in 0..4 {
        let request = session.request();
        assert_eq!((request.id, request.epoch, request.fetch.len()), (0, 0, 3));
        firsts.push(request.fetch[0].0.tp.partition);
        session.on_answer(0);
    }
    assert_eq!(firsts, [0, 1, 2, 0]);
}

#[test]
fn numbers_begin_again_after_the_largest() {
    let mut session = session_of(&[0]);
    session.request();
    session.on_answer(9);
    session.epoch = i32::MAX;
    session.request();
    session.on_answer(9);
    assert_eq!(session.request().epoch, 1);
}

/// A broker's sessions, as Kafka's `FetchSession.scala` keeps them.
#[derive(Default)]
struct ModelBroker {
    sessions: BTreeMap<i32, (i32, BTreeMap<Key, Params>)>,
    ids: i32,
}

impl ModelBroker {
    /// Returns the session id, or an error, and what the broker fetches.
    fn handle(
        &mut self,
        request: &SessionRequest,
        has_room: bool,
    ) -> Result<(i32, BTreeMap<Key, Params>), &'static str> {
        if request.epoch == 0 {
            self.sessions.remove(&request.id);
            let set: BTreeMap<_, _> = request.fetch.iter().cloned().collect();
            if !has_room {
                return Ok((0, set));
            }
            self.ids += 1;
            self.sessions.insert(self.ids, (1, set.clone()));
            return Ok((self.ids, set));
        }
        let Some((epoch, set)) = self.sessions.get_mut(&request.id) else { return Err("unknown") };
        if *epoch != request.epoch {
            return Err("epoch");
        }
        set.extend(request.fetch.iter().cloned());
        set.retain(|key, _| !request.forget.contains(key));
        *epoch += 1;
        let set = set.clone();
        if set.is_empty() {
            self.sessions.remove(&request.id);
            return Ok((0, set));
        }
        Ok((request.id, set))
    }
}

#[test]
fn the_broker_always_fetches_exactly_what_is_wanted() {
    for seed in 0..500_u64 {
        let mut state = seed;
        let mut below = |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let (mut broker, mut session) = (ModelBroker::default(), Session::default());
        for _ in 0..200 {
            for _ in 0..below(5) {
                let partition = i32::try_from(below(6)).unwrap();
                match below(3) {
                    0 => session.unwant(&key(partition)),
                    _ => session.want(key(partition), at(i64::try_from(below(4)).unwrap())),
                }
            }
            let wanted = session.wanted().clone();
            let request = session.request();
            if below(20) == 0 {
                broker.sessions.clear();
            }
            if below(20) == 0 {
                // The request is lost.
                session.begin_anew();
                continue;
            }
            match broker.handle(&request, below(10) > 0) {
                Ok((id, fetched)) => {
                    assert_eq!(fetched, wanted, "seed {seed}");
                    if below(20) == 0 {
                        // The answer is lost.
                        session.begin_anew();
                    } else {
                        session.on_answer(id);
                    }
                }
                Err("unknown") => session.on_unknown(),
                Err(_) => session.begin_anew(),
            }
        }
    }
}
