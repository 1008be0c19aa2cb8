"""Appeals: filing, working on a case, deciding it, and the clocks that run meanwhile.

Every change of a case is one transaction that holds the log's head, so cases, reports and entries never disagree:
`perform` is the only place that changes a case.
"""
