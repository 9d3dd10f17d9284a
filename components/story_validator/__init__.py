"""StoryValidator: validates records and their splits against the settings, and stops a run on broken data.

`component.py` declares inputs, parameters and outputs; `executor.py` runs TensorFlow Data Validation (TFDV);
`expectations.py` holds the schemas that it validates against; `content_stats.py` computes the statistics that TFDV
cannot derive from the records. Start with the class `StoryValidator` in `component.py`. Single stories that cannot be
read are rejected earlier, by StoryExampleGen.
"""
