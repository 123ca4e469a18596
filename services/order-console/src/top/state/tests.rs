use super::*;
use crate::dlq::causes::{Cause, CauseReport};
use crate::dlq::query::LetterLine;
use crate::view::body::Stats;

fn press(state: &mut State, keys: &str) -> Vec<Action> {
    let event = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE);
    keys.chars().filter_map(|c| state.key(event(c))).collect()
}

fn hit(state: &mut State, code: KeyCode) -> Option<Action> {
    state.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn list(types: &[&str], newest: usize) -> LetterList {
    let cause =
        |error_type: &&str| Cause { error_type: (*error_type).to_owned(), ..Cause::default() };
    let causes = types.iter().map(cause).collect();
    let report = CauseReport { causes, ..CauseReport::default() };
    LetterList { report, newest: vec![LetterLine::default(); newest] }
}

fn seen(partitions: usize, dead_letters: u64) -> Snapshot {
    let mut stats =
        Stats { partitions: vec![Partition::default(); partitions], ..Stats::default() };
    stats.numbers.dead_letters = dead_letters;
    Snapshot { stats, ..Snapshot::default() }
}

#[test]
fn q_and_control_c_quit_from_everywhere() {
    for way in ["", "d", "?", "p"] {
        let mut state = State::default();
        press(&mut state, way);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.key(control_c), Some(Action::Quit), "after {way:?}");
        if way != "p" {
            assert_eq!(press(&mut state, "q"), [Action::Quit], "after {way:?}");
        }
    }
    let mut state = State::default();
    let control_p = KeyEvent::new(KeyCode::Char('p'), KeyModifiers::CONTROL);
    assert_eq!((state.key(control_p), state), (None, State::default()));
}

#[test]
fn services_are_told_only_after_a_yes() {
    for (key, role, desired) in [
        ("p", Role::Processor, RunState::Paused),
        ("r", Role::Processor, RunState::Running),
        ("P", Role::Generator, RunState::Paused),
        ("R", Role::Generator, RunState::Running),
    ] {
        let command = Command { role, state: desired };
        let mut state = State::default();
        assert!(press(&mut state, key).is_empty());
        assert_eq!(state.question, Some(command));
        assert_eq!(press(&mut state, "y"), [Action::Write(command)]);
        assert_eq!(state.question, None);
        for no in ["n", "q", key] {
            press(&mut state, key);
            assert!(press(&mut state, no).is_empty(), "{no} after {key}");
            assert_eq!(state.question, None, "{no} after {key}");
        }
        press(&mut state, key);
        assert_eq!((hit(&mut state, KeyCode::Esc), state.question), (None, None));
        assert_eq!((press(&mut state, "y"), state.question), (vec![], None), "nothing is asked");
    }
}

#[test]
fn the_result_of_a_command_is_shown_until_the_next_key() {
    let mut state = State::default();
    let command = Command { role: Role::Generator, state: RunState::Paused };
    state.on_result(command, Ok(()));
    assert_eq!(state.message, Some(Message::Done("all generators: paused".to_owned())));
    state.on_result(command, Err("no broker".to_owned()));
    assert_eq!(state.message, Some(Message::Problem("not done: no broker".to_owned())));
    press(&mut state, "x");
    assert_eq!(state.message, None);
}

#[test]
fn dead_letters_are_read_by_cause_and_then_those_of_one() {
    let mut state = State::default();
    assert_eq!(press(&mut state, "d"), [Action::Read(ListQuery::Causes)]);
    assert_eq!(hit(&mut state, KeyCode::Enter), None, "there is none yet");
    state.answer(&ListQuery::Causes, Ok(list(&["simulated", "truncated"], 0)));
    hit(&mut state, KeyCode::Down);
    hit(&mut state, KeyCode::Down);
    let wanted = ListQuery::Newest("truncated".to_owned());
    assert_eq!(hit(&mut state, KeyCode::Enter), Some(Action::Read(wanted.clone())));
    assert_eq!(state.pane, Pane::Letters);
    state.answer(&wanted, Ok(list(&[], 3)));
    hit(&mut state, KeyCode::End);
    assert_eq!(state.letters.cursor, 2);

    assert_eq!(hit(&mut state, KeyCode::Esc), None);
    assert_eq!(
        (state.pane, state.causes.cursor),
        (Pane::Causes, 1),
        "what was read is still there"
    );
    assert_eq!(hit(&mut state, KeyCode::Esc), None);
    assert_eq!(state.pane, Pane::Group);
}

#[test]
fn an_answer_to_an_earlier_query_is_not_taken() {
    let mut state = State::default();
    press(&mut state, "d");
    state.answer(&ListQuery::Causes, Ok(list(&["simulated"], 0)));
    press(&mut state, "u");
    hit(&mut state, KeyCode::Enter);
    state.answer(&ListQuery::Causes, Err("late".to_owned()));
    assert_eq!(state.causes.found().map_or(0, |found| found.report.causes.len()), 1);
    state.answer(&ListQuery::Newest("truncated".to_owned()), Ok(list(&[], 1)));
    assert_eq!(state.letters.answer, None, "it is of another type");
}

#[test]
fn dead_letters_are_read_again_when_there_are_others_but_not_all_the_time() {
    let mut state = State::default();
    let start = Instant::now();
    let after = |pauses: u32| start + READING_PAUSE * pauses;
    assert_eq!(state.look(&seen(1, 1), start), None);
    press(&mut state, "d");
    assert_eq!(state.look(&seen(1, 2), after(1)), None, "it is under way");
    state.answer(&ListQuery::Causes, Ok(list(&[], 0)));
    assert_eq!(state.look(&seen(1, 2), after(1)), None, "it is too soon");
    let again = Some(Action::Read(ListQuery::Causes));
    assert_eq!(state.look(&seen(1, 2), after(2)), again);
    state.answer(&ListQuery::Causes, Ok(list(&[], 0)));
    assert_eq!(state.look(&seen(1, 2), after(2)), None);
    assert_eq!(state.look(&seen(1, 2), after(9)), None, "nothing has changed");
    hit(&mut state, KeyCode::Esc);
    assert_eq!(state.look(&seen(1, 3), after(9)), None, "the list is not shown");
}

#[test]
fn the_order_of_the_partitions_goes_round() {
    let partition = |partition, lag, lag_seconds, orders, waiting, dead_letters| Partition {
        partition,
        orders,
        dead_letters,
        waiting,
        lag,
        lag_seconds,
        ..Partition::default()
    };
    let partitions = [
        partition(0, Some(5), Some(1.0), 7, 0, 1),
        partition(1, Some(9), Some(0.5), 7, 2, 0),
        partition(2, Some(1), None, 8, 1, 2),
    ];
    let mut state = State::default();
    let mut found = Vec::new();
    for _sort in 0..7 {
        let sorted = state.sort.sorted(&partitions);
        found.push(sorted.iter().map(|partition| partition.partition).collect::<Vec<_>>());
        press(&mut state, "s");
    }
    let expected = [[1, 0, 2], [2, 0, 1], [0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 0, 1], [1, 0, 2]];
    assert_eq!(found, expected);
    let unknown = [partition(0, Some(9), None, 0, 0, 0), partition(1, None, None, 0, 0, 0)];
    assert_eq!(Sort::Lag.sorted(&unknown)[0].partition, 1, "an unknown lag may be the longest");
}

#[test]
fn cursors_stay_within_the_rows() {
    let mut state = State::default();
    let now = Instant::now();
    state.look(&seen(3, 0), now);
    for (code, scroll) in [
        (KeyCode::Up, 0),
        (KeyCode::Down, 1),
        (KeyCode::PageDown, 2),
        (KeyCode::Down, 2),
        (KeyCode::Char('k'), 1),
        (KeyCode::Home, 0),
        (KeyCode::End, 2),
    ] {
        hit(&mut state, code);
        assert_eq!(state.scroll, scroll, "{code:?}");
    }
    state.look(&seen(1, 0), now);
    assert_eq!(state.scroll, 0, "partitions went away");
    state.look(&seen(0, 0), now);
    hit(&mut state, KeyCode::End);
    assert_eq!(state.scroll, 0);
}

#[test]
fn help_goes_away_with_any_key_and_does_nothing_else() {
    let mut state = State::default();
    press(&mut state, "?");
    assert!(state.is_help);
    assert!(press(&mut state, "p").is_empty());
    assert_eq!(state, State::default());
}
