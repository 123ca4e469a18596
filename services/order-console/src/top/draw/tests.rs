use control_topic::record::{Role as ControlRole, RunState};
use ratatui::style::{Color, Modifier};

use super::*;
use crate::control::{DesiredState, Instance};
use crate::dlq::causes::{Cause, CauseReport, LetterCounts};
use crate::dlq::letter::Place;
use crate::dlq::query::{LetterLine, LetterList, OrderFields};
use crate::stats::Numbers;
use crate::time::Time;
use crate::top::state::{Command, List, Sort, State};
use crate::view::body::{
    Connection, ConnectionState, Flow, Group, History, Member, MemberState, Orders, Partition,
    Point, RecentOrder, Role, Status, TopicPartitionBody,
};

const NIGHT: &str = "order-processor-0e6f0f3c-58d4-4c2c-a6b7-0123456789ab";

fn drawn(snapshot: &Snapshot, state: &State, look: Look, size: (u16, u16)) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, size.0, size.1));
    draw(Scene { snapshot, state, look }, &mut buffer);
    buffer
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let Rect { width, height, .. } = buffer.area;
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

fn text(snapshot: &Snapshot, state: &State, size: (u16, u16)) -> String {
    lines(&drawn(snapshot, state, Look::Colours, size)).join("\n")
}

fn busy() -> Snapshot {
    use RunState::{Paused, Running};

    let mut snapshot = Snapshot::default();
    let stats = &mut snapshot.stats;
    stats.at = Some("2026-11-21T15:02:11.250Z".into());
    stats.uptime_seconds = 200;
    stats.source.topic = "orders".to_owned();
    stats.source.group = "night".to_owned();
    stats.connections.broker = Connection {
        state: ConnectionState::Connected,
        since: Some("2026-11-21T14:58:51.000Z".into()),
        detail: None,
        address: "localhost:9092".to_owned(),
    };
    stats.connections.registry = Connection {
        state: ConnectionState::Unreachable,
        since: Some("2026-11-21T15:01:00.000Z".into()),
        detail: Some("connection refused".to_owned()),
        address: "http://localhost:8081/".to_owned(),
    };
    stats.produced = Flow { total: 1_234_567, per_second: 1_000.4 };
    stats.consumed = Flow { total: 1_234_560, per_second: 4.25 };
    stats.numbers = Numbers {
        orders: 1_200_000,
        average: Some(505.73),
        recent_average: Some(500.651),
        min: Some(9.99),
        max: Some(999.99),
        retries: 4_321,
        dead_letters: 34_000,
        replayed: 12,
    };
    stats.revenue = "606876000.123456".to_owned();
    (stats.waiting, stats.lag, stats.lag_seconds) = (3, Some(7), Some(0.42));
    stats.partitions = (0..3).map(partition).collect();
    let (topic, lag_seconds, member) = ("orders.night.replay".to_owned(), Some(0.0), None);
    let (lag, log_end) = (Some(0), Some(0));
    let replay = Partition { topic, lag, lag_seconds, log_end, member, ..Partition::default() };
    stats.partitions.push(replay);
    let point = |number: u32| Point {
        average: Some(500.0 + f64::from(number) / 10.0),
        recent_average: Some(505.0 - f64::from(number % 7)),
        ..Point::default()
    };
    snapshot.history = History { interval_ms: 1_000, points: (0..60).map(point).collect() };
    snapshot.orders = Orders { orders: (0..20).map(order).collect() };
    snapshot.group = Group { state: "Stable".to_owned(), members: members(), ..Group::default() };
    let instance =
        |name: &str, state| Instance { name: name.to_owned(), state, since: None, member_id: None };
    snapshot.control.generator =
        Role { instances: vec![instance("a", Running)], ..Role::default() };
    snapshot.control.processor = Role {
        command: DesiredState {
            desired: Paused,
            by: Some("kim@night".to_owned()),
            at: Some("2026-11-21T15:02:00.000Z".into()),
        },
        instances: vec![instance("a", Running), instance("b", Paused)],
    };
    snapshot
}

fn partition(partition: i32) -> Partition {
    let number = u64::try_from(partition).unwrap();
    Partition {
        topic: "orders".to_owned(),
        partition,
        orders: 400_000 + number,
        average: Some(505.7),
        waiting: number,
        lag: Some(i64::from(partition) * 5),
        lag_seconds: (partition < 2).then_some(0.42),
        committed_offset: Some(411_000),
        log_end: Some(411_005),
        complete: partition != 1,
        member: (partition > 0).then(|| NIGHT.to_owned()),
        ..Partition::default()
    }
}

fn members() -> Vec<Member> {
    let member = |id: &str, instance: Option<&str>, state| Member {
        member_id: id.to_owned(),
        client_id: "order-processor".to_owned(),
        instance_id: instance.map(str::to_owned),
        host: "172.18.0.4".to_owned(),
        partitions: [1, 2]
            .map(|partition| TopicPartitionBody { topic: "orders".to_owned(), partition })
            .into(),
        lag: Some(15),
        state,
        since: None,
    };
    vec![member(NIGHT, None, MemberState::Paused), member("x", Some("day-1"), MemberState::Running)]
}

fn order(number: i64) -> RecentOrder {
    let (status, attempts, error_type) = match number {
        0 => (Status::Waiting, None, None),
        1 => (Status::Retrying, Some(2), None),
        2 => (Status::DeadLettered, None, Some("simulated".to_owned())),
        3 => (Status::Replayed, None, Some("simulated".to_owned())),
        _ => (Status::Processed, None, None),
    };
    RecentOrder {
        topic: "orders".to_owned(),
        partition: 2,
        offset: 411_004 - number,
        produced_at: "2026-11-21T15:02:11.000Z".into(),
        order_id: Some("5f54f7d9-0000-4000-8000-000000000000".to_owned()),
        product: (number != 4).then(|| "Hiking Backpack".to_owned()),
        price: (number != 4).then_some(744.68),
        key: None,
        status,
        attempts,
        error_type,
        note: (number == 4).then(|| "no value".to_owned()),
    }
}

fn with_letters(pane: Pane) -> State {
    let cause = |error_type: &str, letters| Cause {
        error_type: error_type.to_owned(),
        topic: Some("orders".to_owned()),
        counts: LetterCounts { letters, unresolved: letters - 1, replayed: 1, dismissed: 0 },
        last: "2026-11-21T15:02:11.000Z".into(),
        message: Some("simulated permanent failure".to_owned()),
        ..Cause::default()
    };
    let letter = |offset| LetterLine {
        place: Place { partition: 0, offset },
        failed_at: "2026-11-21T15:02:11.000Z".into(),
        attempts: Some(1),
        order: OrderFields {
            product: Some("Hiking Backpack".to_owned()),
            price: Some(744.68),
            ..OrderFields::default()
        },
        message: Some("simulated permanent failure".to_owned()),
        ..LetterLine::default()
    };
    let report = CauseReport {
        topic: "orders-dlq".to_owned(),
        total: LetterCounts { letters: 1_344, unresolved: 1_342, replayed: 2, dismissed: 0 },
        causes: vec![cause("simulated", 1_280), cause("retries-exhausted", 64)],
        ..CauseReport::default()
    };
    let found = LetterList { report, newest: (0..100).map(letter).collect() };
    let list = List { answer: Some(Ok(found)), is_awaited: false, cursor: 0 };
    let mut state = State::default();
    (state.pane, state.error_type) = (pane, "simulated".to_owned());
    (state.causes, state.letters) = (list.clone(), list);
    state
}

#[test]
fn everything_is_on_a_screen_of_80_by_24() {
    let expected = "\
group night  topic orders                            up 3 min 20 s  15:02:11 UTC
broker   connected since 14:58:51  localhost:9092
registry unreachable since 15:01:00  http://localhost:8081/  connection refused
generators running 1/1  processors paused 1/2 by kim@night 15:02:00
produced        1,234,567 1,000/s    average            505.73 ━all ∙last 100
consumed        1,234,560 4.2/s      last 100           500.65 506.25         ⣀⠔
lag                     7 0.4 s      revenue  606,876,000.123…        ••••••⣠⠔⠁•
waiting                 3            lowest               9.99        • ••⣠⠞⠁•••
processed       1,200,000 incomplete highest            999.99         •⣠⠞⠁•••••
dead letters       34,000            retries             4,321        ⣠⠞⠁••••••
replayed               12                                      498.65  ••••••••
PARTITIONS 1–3/4         LAG▾     BEHIND  WAITING      ORDERS   AVERAGE MEMBER
orders 2                   10          —        2     400,002    505.70 …6789ab
orders 1                    5      0.4 s        1    400,001*    505.70 …6789ab
orders 0                    0      0.4 s        0     400,000    505.70 none
MEMBERS 2 Stable         STATE          LAG PARTITIONS           HOST
order-processor …6789ab  paused          15 orders 1 2           172.18.0.4
day-1                    running         15 orders 1 2           172.18.0.4
RECENT ORDERS   TIME        PRODUCT                      PRICE WHY
waiting         15:02:11    Hiking Backpack             744.68
retrying 2      15:02:11    Hiking Backpack             744.68
dead-lettered   15:02:11    Hiking Backpack             744.68 simulated
replayed        15:02:11    Hiking Backpack             744.68 simulated
q quit  p pause  r resume  s sort  d dead letters  ? help";
    assert_eq!(text(&busy(), &State::default(), (80, 24)), expected);
}

#[test]
fn dead_letters_are_listed_by_cause_and_one_by_one() {
    let mut state = with_letters(Pane::Causes);
    let expected = "\
orders-dlq: 1,344 dead letters, 1,342 unresolved, 2 replayed, 0 dismissed
CAUSE                          LETTERS      OPEN  REPLAYED DISMISSED LAST
simulated                        1,280     1,279         1         0 15:02:11
retries-exhausted                   64        63         1         0 15:02:11";
    assert!(text(&busy(), &state, (80, 24)).contains(expected));

    state.causes.answer = Some(Err("no broker".to_owned()));
    assert!(text(&busy(), &state, (80, 24)).contains("\ncannot be read: no broker\n"));
    state.causes = List { is_awaited: true, ..List::default() };
    assert!(text(&busy(), &state, (80, 24)).contains("\ndead letters  reading …\n"));

    let mut state = with_letters(Pane::Letters);
    state.letters.cursor = 50;
    let buffer = drawn(&busy(), &state, Look::Colours, (80, 8));
    let shown = lines(&buffer);
    assert_eq!(shown[1], "the newest of simulated in orders-dlq");
    let marked = "0:50      unresolved 15:02:11        1 Hiking Backpack simulated permanent fail…";
    assert_eq!(shown[6], marked, "what is marked can be seen");
    assert!(buffer[(79, 6)].modifier.contains(Modifier::REVERSED));
    assert!(!buffer[(79, 5)].modifier.contains(Modifier::REVERSED));
}

#[test]
fn a_question_takes_the_last_row_and_a_message_the_one_above() {
    let mut state = State::default();
    let (role, paused) = (ControlRole::Processor, RunState::Paused);
    state.question = Some(Command { role, state: paused });
    state.message = Some(Message::Problem("the log says so".to_owned()));
    let shown = lines(&drawn(&busy(), &state, Look::Colours, (80, 24)));
    assert_eq!(shown[22..], ["the log says so", "Pause all processors? y/n"]);
    assert!(shown[21].starts_with("dead-lettered"), "orders give way: {}", shown[21]);
}

#[test]
fn before_anything_was_read_nothing_is_claimed() {
    let shown = text(&Snapshot::default(), &State::default(), (80, 24));
    assert!(shown.contains("— UTC") && shown.contains("\nreading the cluster …\n"), "{shown}");
    assert!(!shown.contains("no members"), "{shown}");
    let mut snapshot = busy();
    snapshot.group.members.clear();
    let shown = text(&snapshot, &State::default(), (80, 24));
    assert!(shown.contains("\nno members: no orders are processed\n"), "{shown}");
}

#[test]
fn help_fits_on_a_screen_of_80_by_24() {
    let mut state = State::default();
    state.is_help = true;
    let shown = text(&busy(), &state, (80, 24));
    assert!(!shown.contains('…') && shown.contains("\nincomplete *  counted"), "{shown}");
}

#[test]
fn the_partition_table_can_be_scrolled_to_its_end_and_names_its_order() {
    let mut state = State::default();
    (state.scroll, state.sort) = (9, Sort::Orders);
    let shown = text(&busy(), &state, (80, 24));
    assert!(shown.contains("PARTITIONS 2–4/4") && shown.contains("ORDERS▾"), "{shown}");
    assert!(shown.contains("\norders 0 ") && !shown.contains("\norders 2 "), "{shown}");
}

#[test]
fn without_colours_there_is_none_and_with_them_only_the_terminals_own() {
    let is_own = |colour: Color| !matches!(colour, Color::Rgb(..) | Color::Indexed(_));
    for pane in [Pane::Group, Pane::Causes, Pane::Letters] {
        let mut state = with_letters(pane);
        state.message = Some(Message::Problem("the log says so".to_owned()));
        let plain = drawn(&busy(), &state, Look::Plain, (160, 40));
        let has_none = |(fg, bg)| (fg, bg) == (Color::Reset, Color::Reset);
        assert!(plain.content.iter().all(|cell| has_none((cell.fg, cell.bg))), "{pane:?}");
        let coloured = drawn(&busy(), &state, Look::Colours, (160, 40));
        assert!(coloured.content.iter().any(|cell| cell.fg != Color::Reset), "{pane:?}");
        assert!(coloured.content.iter().all(|cell| is_own(cell.fg)), "{pane:?}");
        assert_eq!(lines(&plain), lines(&coloured), "{pane:?}");
    }
}

#[test]
fn control_sequences_do_not_reach_the_terminal() {
    const BAD: &str = "\x1b[2J\u{9b}\u{202e}\n";
    const SHOWN: &str = "\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}";
    let bad = || BAD.to_owned();
    let mut snapshot = busy();
    snapshot.stats.source.group = bad();
    snapshot.stats.connections.registry.detail = Some(bad());
    snapshot.control.processor.command.by = Some(bad());
    for order in &mut snapshot.orders.orders {
        (order.product, order.order_id, order.error_type) = (Some(bad()), Some(bad()), Some(bad()));
    }
    snapshot.orders.orders[1].product = None;
    snapshot.orders.orders[1].note = Some(bad());
    snapshot.group.members[0].host = bad();
    snapshot.group.members[1].instance_id = Some(bad());
    let mut group = State::default();
    group.message = Some(Message::Problem(bad()));
    let mut causes = with_letters(Pane::Causes);
    let mut letters = with_letters(Pane::Letters);
    letters.error_type = bad();
    for list in [&mut causes.causes, &mut letters.letters] {
        let Some(Ok(found)) = &mut list.answer else { panic!("there is a list") };
        for cause in &mut found.report.causes {
            (cause.error_type, cause.topic, cause.message) = (bad(), Some(bad()), Some(bad()));
        }
        for letter in &mut found.newest {
            (letter.order.product, letter.order.order_id, letter.message) =
                (Some(bad()), Some(bad()), Some(bad()));
        }
    }
    for (state, least) in [(&group, 20), (&causes, 6), (&letters, 90)] {
        let shown = text(&snapshot, state, (220, 40));
        let is_bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(is_bad), "{shown:?}");
        let (all, replaced) = (shown.matches("[2J").count(), shown.matches(SHOWN).count());
        assert!(all == replaced && replaced >= least, "{replaced} of {all}: {shown}");
    }
}

#[test]
fn no_size_and_no_number_makes_it_panic() {
    let mut odd = busy();
    odd.stats.produced = Flow { total: u64::MAX, per_second: f64::NAN };
    odd.stats.consumed = Flow { total: u64::MAX, per_second: f64::INFINITY };
    odd.stats.lag = Some(i64::MAX);
    odd.stats.lag_seconds = Some(f64::MAX);
    odd.stats.uptime_seconds = u64::MAX;
    odd.stats.numbers.average = Some(f64::NAN);
    odd.stats.revenue = "9".repeat(40);
    odd.stats.at = Some(Time::of(i64::MAX));
    odd.history.points[0].average = Some(f64::NAN);
    odd.history.points[1].recent_average = Some(1e300);
    for order in &mut odd.orders.orders {
        (order.produced_at, order.product) = (Time::of(i64::MIN), Some("日本語".repeat(9)));
    }
    let mut states = [Pane::Group, Pane::Causes, Pane::Letters].map(with_letters).to_vec();
    states.extend(states.clone().into_iter().map(|mut state| {
        state.message = Some(Message::Done("done".to_owned()));
        (state.scroll, state.causes.cursor, state.letters.cursor) = (99, 1, 99);
        state
    }));
    let mut help = State::default();
    help.is_help = true;
    states.extend([State::default(), help]);
    for snapshot in [&Snapshot::default(), &busy(), &odd] {
        for state in &states {
            for width in (0..30).chain([59, 60, 61, 62, 63, 78, 79, 80, 81, 200]) {
                for height in (0..14).chain([24, 60]) {
                    drawn(snapshot, state, Look::Colours, (width, height));
                }
            }
        }
    }
}

#[test]
fn every_table_has_some_rows_before_one_has_all_of_its_own() {
    for (room, rows, given) in [
        (12, [4, 2, 20], [4, 3, 5]),
        (12, [100, 100, 100], [4, 3, 5]),
        (40, [100, 100, 100], [20, 10, 10]),
        (40, [3, 1, 100], [4, 2, 34]),
        (4, [3, 1, 100], [4, 0, 0]),
        (5, [3, 1, 100], [4, 0, 0]),
        (6, [3, 1, 100], [4, 2, 0]),
        (1, [3, 1, 100], [0, 0, 0]),
        (0, [0, 1, 0], [0, 0, 0]),
    ] {
        assert_eq!(shares(room, rows), given, "{rows:?} in {room}");
    }
}
