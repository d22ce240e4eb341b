//! Rule files that mean harm, and damaged ones: limits, not panics.

use std::path::Path;

use super::file::parse;
use super::tests::files;
use crate::diagnostic::render;

#[test]
fn hostile_sql_costs_a_limit_and_only_its_rule() {
    let deep = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    let cases = format!("{}1{}", "case when 1 then ".repeat(60), " end".repeat(60));
    let long = vec!["1"; 2_000].join("+");
    let nots = "not ".repeat(400) + "true";
    let minus = "- ".repeat(450) + "1";
    let array = format!("x::int{}", "[]".repeat(1_000));
    let subqueries = format!(
        "{}1{}",
        "exists (select 1 where ".repeat(45),
        ")".repeat(45)
    );
    let list = format!("x in ({})", vec!["1"; 5_000].join(","));
    let union = vec!["select 1"; 400].join(" union all ");
    let huge = format!("x = '{}'", "y".repeat(20_000));
    for (sql, fits) in [
        (deep, false),
        (cases, false),
        (long, false),
        (nots, false),
        (minus, false),
        (array, false),
        (subqueries, true),
        (list, true),
        (huge, false),
    ] {
        let text = format!(
            "table: t\nrules:\n  - expression: {}\n",
            serde_json::Value::from(sql)
        );
        let (rules, diagnostics) = parse(&text, Path::new("rules.yaml"));
        assert!(diagnostics.is_empty(), "{}", render(&diagnostics, false));
        assert_eq!(rules[0].refused.is_none(), fits, "{:?}", rules[0].refused);
    }
    let text = format!("rules:\n  - sql: {union}\n");
    let (rules, diagnostics) = parse(&text, Path::new("rules.yaml"));
    assert_eq!((rules.len(), diagnostics.len()), (1, 0));
    let text =
        "table: t\nrules:\n  - matches: {column: a, pattern: 'a{1000}{1000}'}\n  - unique: a\n";
    let refused: Vec<bool> = parse(text, Path::new("rules.yaml"))
        .0
        .iter()
        .map(|rule| rule.refused.is_some())
        .collect();
    assert_eq!(refused, [true, false]);
    for allowed in [
        "select 1;",
        "with a as (select 1) select * from a",
        "values (1), (2)",
        "(select 1) union (select 2) order by 1",
        "table orders",
    ] {
        let (rules, diagnostics) = parse(
            &format!("rules:\n  - sql: {allowed}\n"),
            Path::new("rules.yaml"),
        );
        assert_eq!(rules.len(), 1, "{allowed}: {}", render(&diagnostics, false));
    }
}

#[test]
fn hostile_files_stay_small_and_quick() {
    let many = |line: &str, count: usize| format!("table: t\nrules:\n{}", line.repeat(count));
    let texts = [
        many("  - no_delete: true\n", 20_000),
        many("  - frobnicate: true\n", 20_000),
        many("  - {a: 1, a: 1}\n", 20_000),
        format!("rules: [{}]", "{no_delete: true}, ".repeat(30_000)),
        format!(
            "table: t\nrules:\n  - not_null: [{}]\n    where: x = '{}'\n",
            (0..1_500).map(|n| format!("c{n}, ")).collect::<String>(),
            "y".repeat(9_000)
        ),
        format!(
            "table: t\ntags: [{}]\nrules:\n{}",
            "tag, ".repeat(5_000),
            "  - no_delete: true\n".repeat(5_000)
        ),
        format!("table: {}\nrules: []\n", "x".repeat(1_000_000)),
        format!("{}: 1\n", "x".repeat(1_000_000)),
        "- ".repeat(500_000),
        "[".repeat(1_000_000),
        "{".repeat(1_000_000),
        "a: ".repeat(300_000),
        "? ".repeat(500_000),
        "&a ".repeat(300_000),
        "\"".repeat(1_000_000),
        "'".repeat(1_000_000),
        "\n".repeat(1_000_000),
        "%".repeat(1_000_000),
        "| \n".repeat(300_000),
        format!("a: |\n{}", " x\n".repeat(300_000)),
        format!("[{}]", "a,".repeat(500_000)),
        format!("rules: [{}]", "*a,".repeat(300_000)),
    ];
    for text in texts {
        let start = std::time::Instant::now();
        let (rules, diagnostics) = parse(&text, Path::new("rules.yaml"));
        let head: String = text.chars().take(40).collect();
        assert!(
            rules.len() <= 5_000 && diagnostics.len() <= 1_001,
            "{head:?}: {} rules, {} messages",
            rules.len(),
            diagnostics.len()
        );
        assert!(!diagnostics.is_empty(), "{head:?}");
        eprintln!("{head:?} {:?}", start.elapsed());
    }
}

/// Numbers below a limit, the same for the same seed.
fn generator(seed: u64) -> impl FnMut(usize) -> usize {
    let mut random = seed;
    move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below.max(1) as u64).unwrap_or(0)
    }
}

/// One to five small wounds: something put in, cut out, cut off or copied.
fn damage(chars: &mut Vec<char>, next: &mut impl FnMut(usize) -> usize) {
    let pieces = [
        "'",
        "\"",
        ":",
        ": ",
        "\n",
        "  ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "|\n",
        ">\n",
        "&a ",
        "*a",
        "#",
        "!!str ",
        "\t",
        "é",
        "\u{feff}",
        "\r",
        "~",
        "---\n",
        "null",
        "(",
        ")",
        ";",
        "1e999999999",
        "?",
        "\\",
        "%",
        "\u{85}",
        "\u{2028}",
    ];
    for _ in 0..=next(4) {
        let at = next(chars.len() + 1);
        let to = (at + next(12)).min(chars.len());
        match next(4) {
            0 => chars
                .splice(at..at, pieces[next(pieces.len())].chars())
                .for_each(drop),
            1 => chars.splice(at..to, []).for_each(drop),
            2 => chars.truncate(at),
            _ => {
                let copy: Vec<char> = chars[at..to].to_vec();
                let place = next(chars.len() + 1);
                chars.splice(place..place, copy).for_each(drop);
            }
        }
    }
}

/// Random damage to real files: no panic, and every message has a place that is in the file.
#[test]
fn damaged_files_never_panic() {
    let seed = std::env::var("FIRSTBAD_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0x5eed_f11e_u64);
    eprintln!("FIRSTBAD_SEED={seed}");
    let mut next = generator(seed);
    let mut corpus: Vec<String> = files("testdata/rules/invalid", "yaml")
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .collect();
    corpus.push(std::fs::read_to_string("testdata/rules/shop.yaml").expect("testdata is there"));
    for round in 0..2_000 {
        let mut chars: Vec<char> = corpus[next(corpus.len())].chars().collect();
        damage(&mut chars, &mut next);
        let text: String = chars.into_iter().collect();
        let (_, diagnostics) = parse(&text, Path::new("rules.yaml"));
        let lines = text.split(['\n', '\r']).count();
        for found in &diagnostics {
            assert!(
                found.line <= lines,
                "round {round}: line {} of {lines}\n{text}",
                found.line
            );
        }
        let _ = render(&diagnostics, false);
    }
}
