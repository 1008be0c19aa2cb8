"""Appeals: filing, working on a case, deciding it, and the clocks that run meanwhile.

Every change of a case is one transaction that holds the log's head, so cases, reports and entries never disagree.
`case_service.apply_action` is the only function that changes a case.
"""
