"""What predictions are worth: metrics with their denominators in their names and an interval on each number.

Tracking, in the order of work: `hitsets` turns model outputs and truth into sets of hits, `merging` brings
wedges back to their collision, `matching` pairs predicted with true tracks as a user of the model would see
them, `tracking` counts, `binning` counts per bin. `slots` counts in truth order, as the muon papers do.

>>> predicted = predicted_tracks(events)                     # doctest: +SKIP
>>> score(match(predicted, true_tracks(events)))             # per wedge    # doctest: +SKIP
>>> score(match(merge(predicted, events), parent_truth(events)))  # per collision    # doctest: +SKIP
"""
