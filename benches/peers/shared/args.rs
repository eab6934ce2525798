//! The command line of the peers in Rust.

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    ForwardTrain,
    ForwardEval,
    ForwardBackward,
}

impl Pass {
    const ALL: [Self; 3] = [Self::ForwardTrain, Self::ForwardEval, Self::ForwardBackward];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ForwardTrain => "forward_train",
            Self::ForwardEval => "forward_eval",
            Self::ForwardBackward => "forward_backward",
        }
    }
}

/// What the command line asks for.
pub(crate) struct Args {
    pub(crate) shapes: Vec<Vec<usize>>,
    pub(crate) passes: Vec<Pass>,
    pub(crate) runs: usize,
}

impl Args {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut args = Self { shapes: Vec::new(), passes: Vec::new(), runs: 20 };
        while let Some(option) = arguments.next() {
            let value = arguments.next()?;
            match option.as_str() {
                "--shape" => {
                    let sizes: Option<Vec<usize>> = value.split(',').map(|size| size.parse().ok()).collect();
                    args.shapes.push(sizes.filter(|s| (2..=5).contains(&s.len()) && !s.contains(&0))?);
                }
                "--pass" => args.passes.push(Pass::ALL.into_iter().find(|pass| pass.name() == value)?),
                "--runs" => args.runs = value.parse().ok().filter(|runs| *runs > 0)?,
                _ => return None,
            }
        }
        if args.passes.is_empty() {
            args.passes = Pass::ALL.to_vec();
        }
        (!args.shapes.is_empty()).then_some(args)
    }
}
