"""Merge one file: base, user's and template's version in, one text out.

The merge in four sentences, each with the modules that hold it:

1. diff3 on logical lines; edits that only touch do not collide: `diff`, `diff3`, `logical_lines`, `rules`.
2. A view (order of definitions, indentation, formatting) is applied to all three sides alike and counts as no change:
   `reorder`, `reindent`, `restyle`.
3. What is a set is merged by key: `keyed`, used by `imports`, `definitions`, `lists`, `mapping_union`, `json_union`.
4. A result counts only if no added line is lost, no removed line is back, and it has no defect that neither side has:
   `gate`, `defects`.

`file` is the entry; `search` tries these ways and picks the best result.
"""
