"""Tables, figures and the page of a table's folder; `python -m experiments.report FOLDER` makes them again."""
