"""The jobs' page on Dask's dashboard; imports Bokeh, so only where there is a dashboard"""
