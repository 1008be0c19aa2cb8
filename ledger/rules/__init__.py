"""The rules, pure: what may be reported, what a standing is, what happens in an appeal, under which law and policy."""
