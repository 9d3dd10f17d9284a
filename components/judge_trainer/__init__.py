"""JudgeTrainer: finds or trains the judge of a data set, apart from the evaluations that ask it."""
