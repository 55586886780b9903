/* An empty library: what preloading costs whatever is preloaded. */
void stillframe_bench_empty(void);

void stillframe_bench_empty(void)
{
}
