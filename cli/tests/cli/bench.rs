//! `bench`.

use crate::support::{Folder, adapters, program, small};
use serde_json::{Value, json};
use std::fs;

/// Returns a positive number. serde_json writes null for NaN and infinity.
fn positive(value: &Value) -> f64 {
    let number = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert!(number > 0.0 && number.is_finite(), "{number}");
    number
}

/// Returns the names of an object's fields in alphabetical order.
fn fields(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn bench_checks_times_and_writes() {
    let folder = Folder::new();
    let (json, plot) = (folder.path("bench.json"), folder.path("bench.svg"));
    let run = program(&["bench", "--set", "documents", "--runs", "2", "--json", &json, "--plot", &plot]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(folder.entries(), 2);

    let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let names = [
        "adapter",
        "buffer_copy_gb_per_s",
        "cases",
        "checked",
        "copy_bytes",
        "driver",
        "shader_copy_gb_per_s",
    ];
    assert_eq!(fields(&report), names);
    assert_eq!(report["checked"], true);
    // The copies have the size of the largest tensor, of 12.6 MB, unless the adapter is a GPU.
    assert!([16 << 20, 64 << 20].map(Value::from).contains(&report["copy_bytes"]), "{report}");
    assert_eq!(report["adapter"], adapters()[0]);
    assert!(!report["driver"].as_str().unwrap().is_empty(), "{report}");
    let shader_copy = positive(&report["shader_copy_gb_per_s"]);
    positive(&report["buffer_copy_gb_per_s"]);

    let cases = report["cases"].as_array().unwrap();
    // Four shapes, four passes.
    assert_eq!(cases.len(), 16);
    for case in cases {
        let names = [
            "activation",
            "add",
            "back_to_back_cached",
            "back_to_back_ms",
            "dtype",
            "floor_bytes",
            "floor_gb_per_s",
            "fused",
            "layout",
            "median_ms",
            "min_ms",
            "moved_bytes",
            "pass",
            "plan",
            "shader_copy_fraction",
            "shape",
            "wall_ms",
        ];
        assert_eq!(fields(case), names);
        assert_eq!((&case["dtype"], &case["layout"]), (&"f32".into(), &"channels-first".into()));
        let ms = positive(&case["median_ms"]);
        assert!(positive(&case["min_ms"]) <= ms, "{case}");
        positive(&case["wall_ms"]);
        positive(&case["back_to_back_ms"]);
        let shape = case["shape"].as_array().unwrap();
        let elements: u64 = shape.iter().map(|size| size.as_u64().unwrap()).product();
        // The plan has one dispatch, or several.
        let (tensors, kernels) = match case["pass"].as_str().unwrap() {
            "forward_train" => (2, ["forward_one_dispatch ", "moments "]),
            "forward_eval" => (2, ["normalize "; 2]),
            "backward" => (3, ["backward_one_dispatch ", "backward_sums "]),
            "forward_backward" => (5, ["backward_one_dispatch ", "backward_sums "]),
            other => panic!("{other}"),
        };
        // The last bits may differ, since the order of the operations differs.
        let same = |value: &Value, expected: f64| (positive(value) / expected - 1.0).abs() < 1e-9;
        assert_eq!(case["floor_bytes"], elements * 4 * tensors);
        // The smallest shapes fit into a cache, with all sets of their buffers.
        assert_eq!(case["back_to_back_cached"], elements < 1000);
        let rate = (elements * 4 * tensors) as f64 / ms / 1e6;
        assert!(same(&case["floor_gb_per_s"], rate), "{case}");
        assert!(same(&case["shader_copy_fraction"], rate / shader_copy), "{case}");
        let plan = case["plan"].as_str().unwrap();
        assert!(kernels.iter().any(|kernel| plan.contains(kernel)), "{case}");
    }

    for text in
        ["\n20×100×35×45  channels-first  forward_train ", "\n    backward: backward_sums ", "/buffer"]
    {
        assert!(run.stdout.contains(text), "{text}: {run:?}");
    }
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 120), "{run:?}");
    assert!(!run.stdout.contains("NaN") && !run.stdout.contains("FAIL"), "{run:?}");
    // Standard error is no terminal here, so it has a line for each phase.
    for text in ["surveying plain copies\n", "1/4 20×100×35×45: making data\n", "4/4 4×5: timing backward\n"]
    {
        assert_eq!(run.stderr.matches(text).count(), 1, "{text}: {run:?}");
    }
    assert_eq!(run.stderr.matches(": checking ").count(), 16, "{run:?}");
    assert!(run.stderr.lines().all(|line| line.contains(" s  ")) && !run.stderr.contains('\r'), "{run:?}");

    let svg = fs::read_to_string(&plot).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
    // Each of the four panels has the line of the best copy.
    for (text, times) in [("best WGSL copy", 4), ("copy_buffer_to_buffer", 1)] {
        assert_eq!(svg.matches(text).count(), times, "{svg}");
    }
    // One circle for each case, and one in the legend.
    assert_eq!(svg.matches("<circle ").count(), 16 + 1, "{svg}");
    assert!(!svg.contains("NaN"), "{svg}");
}

#[test]
fn what_bench_cannot_do_is_refused_with_a_remedy() {
    let folder = Folder::new();
    let nowhere = folder.path("nowhere/file");
    let refused: [(&[&str], &[&str]); 8] = [
        (&["--set", "everything"], &["--set <NAME>", "possible values: peers, resnet50, documents, wide"]),
        (&["--pass", "sideways"], &["--pass <PASS>", "forward_train, forward_eval, backward"]),
        (&["--runs", "0"], &["--runs <RUNS>", "allowed is a whole number from 1 on"]),
        (&["--batch", "0"], &["--batch <BATCH>", "allowed is a whole number from 1 on"]),
        (&["--json"], &["--json <FILE>"]),
        (&["--json", &nowhere], &["cannot write", &nowhere]),
        (&["--plot", &nowhere], &["cannot write", &nowhere]),
        (&["--backend", "reference"], &["bench times a GPU"]),
    ];
    for (arguments, words) in refused {
        let run = program(&[&["bench"], arguments].concat());
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{run:?}");
        for word in words {
            assert!(run.stderr.contains(word), "{word}: {run:?}");
        }
    }
    // Too large a tensor is found before anything is timed.
    let run = program(&["bench", "--set", "documents", "--set", "resnet50", "--batch", "100000"]);
    assert!(run.code == Some(2) && run.stdout.is_empty() && run.stderr.contains("error: "), "{run:?}");
    assert_eq!(folder.entries(), 0);
}

#[test]
fn bench_times_the_shapes_it_is_given() {
    let folder = Folder::new();
    let file = folder.path("bench.json");
    let shapes = ["bench", "--shape", "4,6,5,3", "--shape", "7,3", "--layout", "channels-last"];
    let run = program(&[&shapes[..], &["--pass", "forward_eval", "--runs", "1", "--json", &file]].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    let report: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let cases: Vec<(&Value, &Value)> =
        report["cases"].as_array().unwrap().iter().map(|case| (&case["shape"], &case["layout"])).collect();
    let layout = json!("channels-last");
    assert_eq!(cases, [(&json!([4, 6, 5, 3]), &layout), (&json!([7, 3]), &layout)]);

    // Each listed line, given as options, chooses the same shape.
    let list = program(&[&shapes[..], &["--set", "documents", "--list"]].concat());
    assert_eq!(list.code, Some(0), "{list:?}");
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert_eq!(lines.len(), 6, "{list:?}");
    assert_eq!(lines[0], "--shape 20,100,35,45 --layout channels-first");
    assert_eq!(lines[5], "--shape 7,3 --layout channels-last");
    for line in lines {
        let options: Vec<&str> = line.split(' ').collect();
        let again = program(&[&["bench", "--list"], &options[..]].concat());
        assert_eq!(again.stdout, format!("{line}\n"), "{again:?}");
    }
    let default = program(&["bench", "--list"]).stdout;
    assert_eq!(default, program(&["bench", "--list", "--set", "peers"]).stdout);
    assert!(!default.is_empty());
}

/// Plans and the model's figures need no GPU at all.
#[test]
fn plans_for_a_gpu_that_is_not_here_are_listed() {
    let list = |name: &str| {
        program(&["bench", "--list", "--profile", name, "--shape", "32,64,56,56", "--shape", "32,512,7,7"])
    };
    for name in ["h100", "rtx-4090", "rx-7900", "arc-a770", "m3-max", "webgpu"] {
        let run = list(name);
        assert_eq!(run.code, Some(0), "{run:?}");
        let figures: Vec<f64> = run
            .stdout
            .lines()
            .filter_map(|line| line.split_once("f32: ")?.1.split_once(" µs by the model")?.0.parse().ok())
            .collect();
        assert_eq!(figures.len(), 6, "{run:?}");
        assert!(figures.iter().all(|figure| (1.0..1e6).contains(figure)), "{run:?}");
        assert!(run.stdout.contains("normalize "), "{run:?}");
    }
    let unknown = list("h1000");
    assert!(unknown.code == Some(2) && unknown.stderr.contains("it may be h100, rtx-4090"), "{unknown:?}");
}

#[test]
fn bench_refuses_shapes_that_are_none() {
    for (options, says) in [
        (&["--shape", "4,0"][..], "--shape"),
        (&["--shape", "4"], "2 to 5 dimensions"),
        (&["--shape", "1,3"], "more than 1 value per channel"),
        (&["--shape", "60000,60000"], "2147483648"),
        (&["--layout", "channels-last"], "--shape"),
    ] {
        let run = program(&[&["bench"], options].concat());
        assert!(run.code == Some(2) && run.stderr.contains(says), "{options:?}: {run:?}");
    }
}

#[test]
fn without_the_check_everything_says_so() {
    let folder = Folder::new();
    let (json, plot) = (folder.path("bench.json"), folder.path("bench.svg"));
    let run =
        program(&[&SMALL[..], &["--dtype", "f16", "--no-check", "--json", &json, "--plot", &plot]].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.stdout.matches("NOT CHECKED: ").count(), 2, "{run:?}");
    assert!(!run.stdout.contains("PASS") && !run.stderr.contains("checking"), "{run:?}");
    let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((&report["checked"], report["cases"].as_array().unwrap().len()), (&json!(false), 4));
    assert!(fs::read_to_string(&plot).unwrap().contains(", not checked"));
}

#[test]
fn the_folder_of_a_gpu_has_everything() {
    let folder = Folder::new();
    let path = folder.path("report");
    let run = program(&[&SMALL[..], &["--pass", "forward_eval", "--gpu-report", &path]].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.ends_with(&format!("written to {path}\n")), "{run:?}");
    let mut names: Vec<String> =
        fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    let expected = ["README.md", "adapters.json", "adapters.txt", "limits.json", "plans.txt"];
    assert_eq!(names, [&expected[..], &["times.json", "times.md", "times.svg"]].concat());

    let read = |name: &str| fs::read_to_string(format!("{path}/{name}")).unwrap();
    let json = |name: &str| -> Value { serde_json::from_str(&read(name)).unwrap() };
    let adapter = adapters().remove(0);
    let taken = &json("adapters.json")["adapters"][0];
    assert_eq!(taken["name"], adapter);
    let is_software = taken["device_type"] == "Cpu";
    assert_eq!(read("README.md").contains("a driver in software"), is_software);
    assert_eq!(run.stderr.contains("a driver in software"), is_software, "{run:?}");
    for (name, words) in [
        ("adapters.txt", adapter.as_str()),
        ("times.md", "| 4×3×16×16 | channels-first | f32 | forward_eval | "),
        ("times.md", ": 1 right, 0 wrong"),
        ("plans.txt", "normalize "),
        ("times.svg", "<circle "),
    ] {
        assert!(read(name).contains(words), "{name}: {words}");
    }
    assert_eq!(
        (&json("times.json")["checked"], json("times.json")["cases"][0]["pass"].clone()),
        (&json!(true), json!("forward_eval"))
    );

    let limits = json("limits.json");
    let of = |kind: &str| {
        let limits = limits["limits"].as_array().unwrap().iter();
        limits.filter(|limit| limit["limit"] == kind).collect::<Vec<_>>()
    };
    assert_eq!(of("dispatch").len(), 4);
    for limit in of("copy").into_iter().chain(of("read")) {
        positive(&limit["gb_per_s"]);
    }
    for limit in of("cache") {
        positive(&limit["again_us"]);
    }
    assert!(of("copy").len() >= 6 && of("copy").len() == of("read").len() && of("cache").len() >= 4);

    // Neither the folder nor what is in it is written again.
    let times = read("times.json");
    let again = program(&[&SMALL[..], &["--gpu-report", &path]].concat());
    assert_eq!((again.code, again.stdout.as_str()), (Some(2), ""), "{again:?}");
    assert!(again.stderr.contains("name a new folder") && again.stderr.contains(&path), "{again:?}");
    assert_eq!(read("times.json"), times);

    // All sets are the default.
    let list = |options: &[&str]| program(&[&["bench", "--list"], options].concat()).stdout;
    let all = list(&["--gpu-report", &path]);
    assert!(
        all.lines().count() > list(&[]).lines().count() + list(&["--set", "channels-last"]).lines().count()
    );
}

/// Options of a short benchmark.
const SMALL: [&str; 5] = ["bench", "--shape", "4,3,16,16", "--runs", "1"];

#[test]
fn bench_tunes_and_keeps_what_it_found() {
    let folder = Folder::new();
    let file = folder.path("tunings.txt");
    let bench = |options: &[&str]| program(&[&SMALL[..], options].concat());
    let run = bench(&["--pass", "forward_eval", "--tune", "--tunings", &file]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.stdout.matches("\n4×3×16×16 forward_eval: ").count(), 1, "{run:?}");
    assert!(!run.stdout.contains("NaN") && !run.stdout.contains("inf"), "{run:?}");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("forward running outer=4 ")).count(), 1, "{text}");
    assert_eq!((text.lines().count(), folder.entries()), (7, 1), "{text}");

    // The second run adds to the file, and tunes each pass once.
    let run = bench(&["--tune", "--tunings", &file]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.stdout.lines().filter(|line| line.contains(" → ")).count(), 3, "{run:?}");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 9, "{text}");
}

#[test]
fn runs_use_the_tunings_of_a_file() {
    let folder = Folder::new();
    let (file, json) = (folder.path("tunings.txt"), folder.path("bench.json"));
    let bench = |options: &[&str]| program(&[&SMALL[..], options].concat());
    assert_eq!(bench(&["--pass", "backward", "--tune", "--tunings", &file]).code, Some(0));
    let text = fs::read_to_string(&file).unwrap();

    // The file asks for a plan that no heuristic would choose.
    let start = text.find(" workgroup_size=").unwrap();
    let line = text[..start].rfind('\n').unwrap() + 1;
    let end = start + text[start..].find('\n').unwrap();
    let odd = "backward batch outer=4 channels=3 inner=256 workgroup_size=2 splits=4 \
               one_dispatch=0 groups=1 tile_loads=0 loads_per_lane_planes=3 \
               loads_per_lane_columns=3 columns_per_lane=1 lanes_across=2";
    assert!(text[line..end].starts_with("backward batch outer=4 channels=3 inner=256 "), "{text}");
    fs::write(&file, format!("{}{odd}{}", &text[..line], &text[end..])).unwrap();
    let backward = ["--pass", "backward", "--json", &json];
    let plan = |options: &[&str]| {
        let run = bench(&[&backward[..], options].concat());
        assert!(run.code == Some(0) && !run.stderr.contains("note: "), "{run:?}");
        let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        report["cases"][0]["plan"].as_str().unwrap().to_owned()
    };
    let (with, without) = (plan(&["--tunings", &file]), plan(&[]));
    assert!(with.contains("workgroups of 2") && with.contains(", 4 splits"), "{with}");
    assert_ne!(with, without);
    let (_, results) = folder.result(&small(), &["--tunings", &file]);
    assert!(results.names().contains(&"y"));
}

#[test]
fn tunings_that_do_not_hold_here_are_not_used() {
    let folder = Folder::new();
    let file = folder.path("tunings.txt");
    let bench = |options: &[&str]| {
        let fixed = ["bench", "--shape", "4,3", "--runs", "1", "--pass", "forward_eval", "--tunings", &file];
        program(&[&fixed[..], options].concat())
    };
    // The file does not exist. Only --tune creates it.
    let run = bench(&[]);
    assert!(run.code == Some(2) && run.stderr.contains("cannot read the tunings"), "{run:?}");
    let run = bench(&["--tune"]);
    assert!(run.code == Some(0) && !run.stderr.contains("note: "), "{run:?}");
    let good = fs::read_to_string(&file).unwrap();

    // Tunings of another driver: the run prints a note and uses the heuristics. --tune replaces them.
    let foreign = good.replace("\ndriver ", "\ndriver another ");
    fs::write(&file, &foreign).unwrap();
    let run = bench(&[]);
    assert!(run.code == Some(0) && run.stderr.contains("note: "), "{run:?}");
    assert!(run.stderr.contains("the tunings are of driver \"another "), "{run:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), foreign);
    assert_eq!(bench(&["--tune"]).code, Some(0));
    assert_eq!(fs::read_to_string(&file).unwrap().lines().nth(2), good.lines().nth(2));

    // A file without valid tunings is an error, and is never replaced.
    for other in ["", "model weights", &good[..good.len() - 4]] {
        fs::write(&file, other).unwrap();
        for options in [&[][..], &["--tune"]] {
            let run = bench(options);
            assert!(run.code == Some(2) && run.stdout.is_empty(), "{run:?}");
            assert!(run.stderr.contains(&file) && run.stderr.contains(", line "), "{run:?}");
            assert_eq!(fs::read_to_string(&file).unwrap(), other);
        }
    }
    let run = program(&["verify", "--backend", "reference", "--tunings", &file]);
    assert!(run.code == Some(2) && run.stderr.contains("--tunings concerns the GPU"), "{run:?}");
}

/// The run times types, and an activation fused and apart, and compares them.
#[test]
fn bench_compares_types_and_fusion() {
    let folder = Folder::new();
    let file = folder.path("bench.json");
    let run = program(&[
        "bench",
        "--shape",
        "4,6,8,8",
        "--dtype",
        "f32",
        "--dtype",
        "bf16",
        "--activation",
        "relu",
        "--add",
        "--runs",
        "1",
        "--json",
        &file,
    ]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let report: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let cases = report["cases"].as_array().unwrap();
    // Two types, fused or not, four passes.
    assert_eq!(cases.len(), 16);
    let tensors = |pass: &str, fused: bool| {
        let find = |case: &&Value| {
            (&case["pass"], &case["fused"], &case["dtype"]) == (&pass.into(), &fused.into(), &"f32".into())
        };
        cases.iter().find(find).unwrap()["moved_bytes"].as_u64().unwrap() / (4 * 6 * 64 * 4)
    };
    // x, the residual and y if fused. Apart, y of the batch norm is written and read in between.
    assert_eq!((tensors("forward_eval", true), tensors("forward_eval", false)), (3, 5));
    for words in
        ["f32 relu fused", "bf16 relu fused", "4×6×8×8 backward: bf16", "saves", "f32, relu of a sum, apart:"]
    {
        assert!(run.stdout.contains(words), "{words}: {run:?}");
    }
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 120), "{run:?}");
    assert!(run.stderr.contains("4/4 4×6×8×8 bf16, relu of a sum, apart: timing backward\n"), "{run:?}");
    let alone = program(&["bench", "--add"]);
    assert!(alone.code == Some(2) && alone.stderr.contains("--activation"), "{alone:?}");
}
