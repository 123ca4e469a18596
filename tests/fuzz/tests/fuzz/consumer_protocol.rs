use fuzz::{Outcome, Target};
use kafka_core::consumer_protocol::{
    Assignment, ConsumerProtocolError, Implementation, Subscription,
};

type Read =
    (Result<Subscription, ConsumerProtocolError>, Result<Assignment, ConsumerProtocolError>);

#[test]
fn consumer_protocol() {
    let turn = fuzz::turn();
    let owned = [("orders".to_owned(), vec![0, 1, 7]), (String::new(), Vec::new())];
    let counts = [("orders".to_owned(), 12), ("more".to_owned(), i32::MAX)];
    let subscription = Subscription {
        topics: vec!["orders".into(), "more".into()],
        owned: owned.clone().into(),
        generation: Some(4),
        rack_id: Some("rack".into()),
        implementation: Implementation::This,
    };
    let assignment = Assignment { partitions: owned.into(), partition_counts: counts.into() };
    let eager = Subscription { owned: [].into(), generation: None, ..subscription.clone() };
    // A subscription of version 0 with the user data of Java's eager sticky assignor: partitions, generation.
    let sticky = [
        &b"\0\0\0\0\0\x01\0\x01t\0\0\0\x13\0\0\0\x01\0\x01t"[..],
        &[0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 9],
    ];
    let seeds = vec![
        subscription.encode().unwrap().to_vec(),
        eager.encode().unwrap().to_vec(),
        assignment.encode().unwrap().to_vec(),
        Assignment::default().encode().unwrap().to_vec(),
        sticky.concat(),
        Vec::new(),
    ];
    let target = Target {
        name: "consumer_protocol",
        executions: 20_000,
        seeds,
        memory: |input| 64 * input.len() + 1024,
        mend: None,
        decode: Box::new(|input| (Subscription::decode(input), Assignment::decode(input))),
        check,
    };
    fuzz::run(&turn, target, crate::LEFT);
}

fn check(_input: &[u8], (subscription, assignment): &Read) -> Outcome {
    if let Ok(subscription) = subscription {
        let written = subscription.encode().unwrap();
        // The encoded subscription is ours, and names each topic once.
        let mut expected =
            Subscription { implementation: Implementation::This, ..subscription.clone() };
        expected.topics.sort_unstable();
        expected.topics.dedup();
        assert_eq!(Subscription::decode(&written).as_ref(), Ok(&expected));
    }
    if let Ok(assignment) = assignment {
        assert_eq!(Assignment::decode(&assignment.encode().unwrap()).as_ref(), Ok(assignment));
    }
    let is_accepted = subscription.is_ok() || assignment.is_ok();
    let owns =
        subscription.as_ref().map(|read| (read.owned.len().min(3), read.generation.is_some()));
    let counts = assignment
        .as_ref()
        .map(|read| (read.partitions.len().min(3), read.partition_counts.len().min(3)));
    let (owns, counts) = (owns.map_err(crate::kind), counts.map_err(crate::kind));
    Outcome { is_accepted, kind: format!("{owns:?} {counts:?}") }
}
