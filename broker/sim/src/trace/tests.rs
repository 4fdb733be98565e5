//! Every form with what it gives, and what is refused.

use spillway_types::Spot;

use super::*;
use crate::Asks;

fn read(text: &str) -> Trace {
    Trace::read(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn shapes(trace: &Trace) -> Vec<(&str, &str, u64, u64, u64, u32)> {
    let shape = |job: &'_ TraceJob| (job.arrival.0, job.runtime.0, job.estimate.0, job.gpus);
    let jobs = trace.jobs.iter().map(|job| {
        let (arrival, runtime, estimate, gpus) = shape(job);
        (job.id.as_str(), job.group.as_str(), arrival, runtime, estimate, gpus)
    });
    jobs.collect()
}

/// Each text is refused at this line and column, with these words.
fn refused(cases: &[(String, usize, &str, &str)]) {
    for (text, line, column, words) in cases {
        let error = Trace::read(text).expect_err(text);
        assert_eq!((error.line, error.column.as_str()), (*line, *column), "{error}\n{text}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn csv_is_read_in_any_order_of_columns() {
    let trace = read(
        "job_id,group,arrival_hr,runtime_hr,gpus\n0,11cb48,0.0,0.0075,2\r\n\n1,g1,0.016389,1.0782212780301361,8\n",
    );
    assert_eq!(trace.format, Format::Csv);
    assert_eq!(
        shapes(&trace),
        [("0", "11cb48", 0, 27_000, 27_000, 2), ("1", "g1", 59_001, 3_881_597, 3_881_597, 8)]
    );
    let trace =
        read("\u{feff}gpus,\"estimate_hr\",runtime_hr,note,arrival_hr,group,JOB_ID\n1,2,1,x,0.5,a,\"j\"\n");
    assert_eq!(shapes(&trace), [("j", "a", 1_800_000, 3_600_000, 7_200_000, 1)]);
}

#[test]
fn wrong_csv_is_refused_at_its_place() {
    let head = "job_id,group,arrival_hr,runtime_hr,gpus\n0,a,1,1,1\n";
    let row = |row: &str| format!("{head}{row}\n");
    refused(&[
        ("job_id,group,arrival_hr,gpus\n".into(), 1, "the head", "no column runtime_hr"),
        (row("1,a,-0.5,1,1"), 3, "arrival_hr", "`-0.5` is negative"),
        (row("1,a,1,NaN,1"), 3, "runtime_hr", "`NaN` is not a number"),
        (row("1,a,1,0,1"), 3, "runtime_hr", "no time at all"),
        (row("1,a,1,90000,1"), 3, "runtime_hr", "over ten years"),
        (row("1,a,1,1,0"), 3, "gpus", "`0` is not a number of GPUs"),
        (row("1,a,1,1,1.5"), 3, "gpus", "`1.5`"),
        (row("1,a,1,1,1000001"), 3, "gpus", "1000000"),
        (row("1,a,1,1"), 3, "gpus", "is missing"),
        (row("1,A b,1,1,1"), 3, "group", "`A b` is not a group name"),
        (row("0,a,1,1,1"), 3, "job_id", "already the job of line 2"),
        (row("1,a,0.999,1,1"), 3, "arrival_hr", "sort the lines"),
        ("job_id,group,arrival_hr,runtime_hr,gpus\n".into(), 1, "the whole", "no job in it"),
        ("name,cpu_milli\nx,1\n".into(), 1, "the head", "sacct --allusers"),
        (String::new(), 1, "the head", "is of no trace"),
    ]);
}

#[test]
fn what_a_job_asked_beside_gpus_is_read_where_it_is_there() {
    let trace = read(
        "job_id,group,arrival_hr,runtime_hr,gpus,spot,class,deadline_hr,inputs,checkpoint_hr,estimate_hr\n\
         0,a,0,1,1,never,urgent,2.5,imagenet; common.crawl,0.25,2\n\
         1,a,0,1,1,,,,,,\n\
         2,a,0,1,1,allow\n",
    );
    let asks = Asks {
        class: Some("urgent".parse().unwrap()),
        deadline: Some(DurationMs(9_000_000)),
        inputs: vec!["imagenet".parse().unwrap(), "common.crawl".parse().unwrap()],
        checkpoint: Some(DurationMs(900_000)),
        spot: Spot::Never,
    };
    let read: Vec<Asks> = trace.jobs.iter().map(|job| job.asks.clone()).collect();
    assert_eq!(read, [asks, Asks::default(), Asks::default()]);
    assert_eq!(trace.jobs[0].estimate, DurationMs(7_200_000));
    let wrong = |column: &str, value: &str| {
        format!("job_id,group,arrival_hr,runtime_hr,gpus,{column}\n0,a,0,1,1,{value}\n")
    };
    let many = vec!["x"; 65].join(";");
    refused(&[
        (wrong("class", "Very Urgent"), 2, "class", "`Very Urgent` is not a class name"),
        (wrong("deadline_hr", "soon"), 2, "deadline_hr", "`soon` is not a number"),
        (wrong("deadline_hr", "0"), 2, "deadline_hr", "`0` is no time at all"),
        (wrong("checkpoint_hr", "0"), 2, "checkpoint_hr", "`0` is no time at all"),
        (wrong("checkpoint_hr", "-1"), 2, "checkpoint_hr", "`-1` is negative"),
        (wrong("inputs", "a;;b"), 2, "inputs", "`` is not a dataset name"),
        (wrong("inputs", "Big Data"), 2, "inputs", "`Big Data` is not a dataset name"),
        (wrong("inputs", &many), 2, "inputs", "are more than 64 datasets"),
        (wrong("spot", "maybe"), 2, "spot", "`maybe`"),
        (wrong("estimate_hr", "long"), 2, "estimate_hr", "`long` is not a number"),
    ]);
}

const SACCT: &str = "\
JobID|Account|Submit|Start|End|ElapsedRaw|AllocTRES|ReqTRES|State|TimelimitRaw
12|Vision_Lab|2026-03-01T10:00:00|2026-03-01T10:05:00|2026-03-01T11:05:00|3600|billing=8,cpu=64,gres/gpu=8,mem=512G,node=1|gres/gpu=8|COMPLETED|120
12.batch|Vision_Lab|2026-03-01T10:05:00|2026-03-01T10:05:00|2026-03-01T11:05:00|3600|cpu=64,gres/gpu=8||COMPLETED|
12.extern|||||3600|||COMPLETED|
9|nlp|2026-03-01T09:00:00|2026-03-01T09:00:10|2026-03-01T09:00:40|30|cpu=4,gres/gpu:a100=4,gres/gpu:h100=2||FAILED|UNLIMITED
13_4|nlp|2026-03-01T10:30:00|2026-03-01T10:31:00|2026-03-01T10:32:00|60||gres/gpu=1|TIMEOUT|1
14|nlp|2026-03-01T10:30:00|Unknown|2026-03-01T10:40:00|0||gres/gpu=1|CANCELLED by 1000|60
15|nlp|2026-03-01T10:30:00|2026-03-01T10:31:00|Unknown|9000|gres/gpu=1|gres/gpu=1|RUNNING|60
16|nlp|2026-03-01T10:30:00|2026-03-01T10:31:00|2026-03-01T10:41:00|600|cpu=4,mem=1G|cpu=4|COMPLETED|60
17_[1-9]|nlp|2026-03-01T10:30:00|Unknown|Unknown|0||gres/gpu=1|PENDING|60
";

#[test]
fn slurm_accounting_is_read_without_steps() {
    let trace = read(SACCT);
    assert_eq!(trace.format, Format::Slurm);
    assert_eq!(
        shapes(&trace),
        [
            ("9", "nlp", 0, 30_000, 30_000, 6),
            ("12", "vision-lab", 3_600_000, 3_600_000, 7_200_000, 8),
            ("13_4", "nlp", 5_400_000, 60_000, 60_000, 1),
        ]
    );
    let said = trace.said().unwrap();
    assert_eq!(
        said,
        "2 jobs left out that never ran, 1 job left out that had not ended, 1 job left out that asked for no GPU"
    );
    let short = read("JobID|Submit|Start|End|ReqTRES\n1|100|200|260|gres/gpu=2\n");
    assert_eq!(shapes(&short), [("1", "none", 0, 60_000, 60_000, 2)]);
}

#[test]
fn wrong_slurm_accounting_is_refused_at_its_place() {
    let head = "JobID|Account|Submit|Start|End|ElapsedRaw|AllocTRES|State\n";
    let row = |row: &str| format!("{head}{row}\n");
    let good = "1|a|2026-03-01T10:00:00|2026-03-01T10:00:00|2026-03-01T11:00:00|3600|gres/gpu=1|COMPLETED";
    refused(&[
        ("JobID|Account|Submit|AllocTRES\n".into(), 1, "the head", "no column ElapsedRaw"),
        ("JobID|Account|ElapsedRaw|AllocTRES\n".into(), 1, "the head", "no column Submit"),
        ("JobID|Submit|ElapsedRaw\n".into(), 1, "the head", "no column AllocTRES"),
        (row(&good.replace("3600", "1h")), 2, "ElapsedRaw", "`1h` is not a whole number"),
        (row(&good.replace("3600", "316224001")), 2, "ElapsedRaw", "over ten years"),
        (row(&good.replacen("2026-03-01T10", "yesterday", 1)), 2, "Submit", "is not a time"),
        (row(&good.replace("gpu=1", "gpu=many")), 2, "AllocTRES", "no number of GPUs"),
        (format!("{head}{good}\n{good}\n"), 3, "JobID", "already the job of line 2"),
        ("JobID|Submit|Start|End|ReqTRES\n1|100|260|200|gres/gpu=2\n".into(), 2, "End", "before Start"),
        (row(&good.replace("COMPLETED", "RUNNING")), 1, "the whole", "had not ended"),
    ]);
}

/// A broker's journal: a job on one node, one that overflows into a cloud, and one that is cancelled while it waits.
fn journal() -> Vec<(i64, String)> {
    use crate::{Program, Simulation, Work, World};
    use spillway_types::{Checkpoint, JobSpec, PartEnd, Placement, Resources, RetryPolicy};
    let mut description = crate::federation::uniform(1, 8).unwrap();
    let work = |after: u64, gpus: Option<&str>, nodes: u32, minutes: u64| {
        let runs = DurationMs::from_secs(minutes * 60);
        let resources =
            Resources { gpus: gpus.map(|gpus| gpus.parse().unwrap()), cpus_milli: 1000, memory_mib: 1024 };
        let spec = JobSpec {
            name: "job".to_owned(),
            group: "lab".parse().unwrap(),
            command: vec!["run".to_owned()],
            env: BTreeMap::new(),
            image: None,
            resources,
            nodes,
            array: None,
            time_limit: DurationMs(runs.0 * 2),
            expected: Some(runs),
            deadline: None,
            class: None,
            inputs: vec![],
            placement: Placement::default(),
            checkpoint: Checkpoint::default(),
            retry: RetryPolicy::default(),
            lease: DurationMs::from_secs(60),
        };
        Work {
            after: DurationMs::from_secs(after),
            spec,
            program: Program { runs, end: PartEnd::Exited { code: 0 } },
        }
    };
    description.groups.push(spillway_core::entity::Group {
        name: "lab".parse().unwrap(),
        parent: None,
        weight: 1,
        priority: 0,
        budget_micros: None,
        budget_stated: None,
    });
    let all = vec![
        work(60, Some("8"), 1, 30),
        work(120, Some("0.5"), 1, 10),
        work(130, None, 1, 5),
        work(180, Some("8"), 2, 60),
    ];
    let mut simulation = Simulation::new(1, description, all).unwrap();
    simulation.run_until(World::BEGIN.plus(DurationMs::from_secs(6 * 3600))).unwrap();
    assert!(simulation.is_over());
    let entry = |entry: &crate::JournalEntry| (entry.at.0, serde_json::to_string(&entry.events).unwrap());
    simulation.journal().iter().map(entry).collect()
}

#[test]
fn a_journal_is_read_in_every_form_that_a_database_gives() {
    let rows = journal();
    let line = |(at, body): &(i64, String)| format!("{{\"seq\":1,\"at_ms\":{at},\"body\":{body}}}");
    let lines: Vec<String> = rows.iter().map(line).collect();
    let trace = read(&lines.join("\n"));
    assert_eq!(trace.format, Format::Journal);
    let got: Vec<_> = trace.jobs.iter().map(|job| (job.arrival.0, job.runtime.0, job.gpus)).collect();
    assert_eq!(got, [(0, 1_800_000, 8), (60_000, 600_000, 1), (120_000, 3_600_000, 16)]);
    assert!(trace.jobs.iter().all(|job| job.estimate == job.runtime && job.group.as_str() == "lab"));
    assert_eq!(trace.said().as_deref(), Some("1 job left out that asked for no GPU"));

    let text =
        |(at, body): &(i64, String)| serde_json::json!({ "seq": 1, "at_ms": at, "body": body }).to_string();
    let texts: Vec<String> = rows.iter().map(text).collect();
    assert_eq!(read(&format!("[{}]", texts.join(",\n"))), trace);
    // Cut off in the middle, the last job has not ended.
    let ends: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].contains("attempt-ended")).collect();
    let cut = read(&lines[..ends[ends.len() - 1]].join("\n"));
    assert_eq!((cut.jobs.len(), cut.skipped.get(&Skipped::NotEnded)), (2, Some(&1)));
}

#[test]
fn a_wrong_journal_is_refused_at_its_line() {
    refused(&[
        ("{\"at_ms\":1,\"body\":[]}\n{\"at_ms\":1}\n".into(), 2, "the row", "missing field `body`"),
        ("{\"at_ms\":1,\"body\":[{\"event\":\"sung\"}]}\n".into(), 1, "the row", "sung"),
        ("[{\"at_ms\":1,\"body\":\"x\"}]\n".into(), 1, "the row", "does not parse"),
        ("{\"at_ms\":1,\"body\":[]}\n".into(), 1, "the whole", "no job in it"),
    ]);
}

#[test]
fn accounts_become_groups() {
    for (account, group) in
        [("nlp", "nlp"), ("Vision_Lab", "vision-lab"), ("__", "none"), ("", "none"), ("ä-b", "b")]
    {
        assert_eq!(group_of(account).as_str(), group);
    }
}
