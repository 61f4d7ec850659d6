-- RELEASE: the link has no owner any more; its fence stays.
return apply('owner', '')
