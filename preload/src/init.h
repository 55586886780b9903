#ifndef SF_INIT_H
#define SF_INIT_H

/* Reads the configuration, then installs what it asks for.  Runs as the
 * constructor, or from the first interposed call before that which finds an
 * environment. */
void sf_init(void);

#endif
